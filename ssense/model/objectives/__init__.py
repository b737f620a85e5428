"""What brain encoders are trained for on images: InfoNCE, SSR and NeuroCLIP."""
