"""What is counted of tasks, queues and actors, and how it becomes Prometheus's text; needs the extra only for that."""
