"""What stimuli are retrieved by: embeddings of frozen text and image towers."""
