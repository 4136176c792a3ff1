"""Is it right? What may block a release."""
