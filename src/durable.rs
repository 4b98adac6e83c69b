//! How does a file get written so that it is still there after a crash? The only writer of files.
