//! `kubectl deny`, as kubectl finds it: an executable of this name on the PATH.

fn main() -> std::process::ExitCode {
    countersign::cli::review::main(countersign::cli::review::Verb::Deny)
}
