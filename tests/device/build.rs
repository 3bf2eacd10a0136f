//! The board's memory, for the linker.

fn main() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/link.x");
    println!("cargo::rustc-link-arg-bins=-T{script}");
    println!("cargo::rerun-if-changed={script}");
}
