//! The loopback endpoint in OpenAI's and Anthropic's shape.
