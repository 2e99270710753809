//! The `cnc` binary: all of it is in the library, where tests reach it too.

fn main() -> std::process::ExitCode {
    cnc_gateway::cli::main()
}
