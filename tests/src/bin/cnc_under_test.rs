//! The `cnc` binary once more: only a binary of their own package is built for integration tests, and named to them.

fn main() -> std::process::ExitCode {
    cnc_gateway::cli::main()
}
