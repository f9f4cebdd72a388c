"""The front door: REST, server-sent events, and the face that OpenAI clients know."""
