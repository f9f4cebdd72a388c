"""The wire of OpenAI's API, as its official clients read it."""
