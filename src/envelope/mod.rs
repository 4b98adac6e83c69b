//! What are the bytes of a sealed value? Parse and encode, pure.
