//! Compiles Argo CD's plugin contract, without protoc.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let contract = "../../proto/plugin.proto";
    println!("cargo::rerun-if-changed={contract}");
    let descriptors = protox::compile([contract], ["../../proto"])?;
    tonic_prost_build::configure()
        // A piece of an upload stays in the buffer that it was read into.
        .bytes(".plugin.File")
        .compile_fds(descriptors)?;
    Ok(())
}
