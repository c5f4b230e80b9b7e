"""What stages cost: measured on the devices at hand, or estimated by the TPU compiler."""
