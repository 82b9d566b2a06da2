"""What the tests share: images, servers, a service to talk to."""
