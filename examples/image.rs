//! The `countersign` command once more, for the image of the tests: linked in another way, from the same parts.

fn main() -> std::process::ExitCode {
    countersign::cli::main()
}
