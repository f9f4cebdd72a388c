"""The log as auditors read it: every event of a tenant, in commit order, from any place."""
