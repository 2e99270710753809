//! The `cnc` binary: all of it is in the library, where tests reach it too.

/// Gives back what is free: after a burst, glibc's keeps what it took, for as long as the process runs.
#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    cnc_gateway::cli::main()
}
