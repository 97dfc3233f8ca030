//! Scaffold.
mod exec {
    mod feed;
    mod lines;
    mod progress;
}
fn main() {}
