"""The other AWS services: queues, event bus, CloudWatch, Lambda."""
