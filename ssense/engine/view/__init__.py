"""What people see: lines on a terminal, matrices, and MLflow."""
