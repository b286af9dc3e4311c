"""What happens outside when an answer comes: a webhook, a command, a pin. Not a safety device, and it says so."""
