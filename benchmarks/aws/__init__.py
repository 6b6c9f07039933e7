"""What the product costs and how far it scales on AWS, calculated and simulated."""
