"""The API's description: the OpenAPI document, and what it is made of."""
