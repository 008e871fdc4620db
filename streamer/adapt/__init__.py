"""What an unlabelled stream says of its own noise, and what is known of filtering such streams."""
