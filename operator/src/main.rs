//! The operator's binary: everything is in the library.

fn main() {}
