//! Builds the images that the tests use. They are built where there is a way to Debian's and npm's packages; the tests run where there
//! is none.

use std::time::Instant;

fn main() {
    let begun = Instant::now();
    containers::images::build(&containers::engine::Engine::start());
    println!("images: {:?}", begun.elapsed());
}
