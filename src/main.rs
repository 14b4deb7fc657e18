//! The deskspool binary: arguments in, exit code out.

fn main() -> std::process::ExitCode {
    deskspool::cli::run()
}
