"""Pure translators between outside shapes and the words of the domain; one module a shape."""
