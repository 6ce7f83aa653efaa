"""mcpops: operations runbooks for MCP ecosystems."""
