"""The only room that may touch Keras or backend internals."""
