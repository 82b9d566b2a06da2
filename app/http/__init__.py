"""HTTP: middleware, forms, errors, schemas and everything else that the routes share."""
