mod clock;
mod cluster;
fn main() {}
