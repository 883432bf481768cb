"""What torch must know about each primitive: schema, fake, autograd, autocast, one file each."""
