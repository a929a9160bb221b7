//! The embedded fixtures are a part of the program: a new one rebuilds it.

fn main() {
    println!("cargo::rerun-if-changed=proto-fixtures");
    println!("cargo::rerun-if-changed=build.rs");
}
