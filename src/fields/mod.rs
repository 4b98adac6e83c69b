//! Where is the PHI in a document? Selectors and spans, pure.
