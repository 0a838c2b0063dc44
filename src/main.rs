//! rekiln: parse, run, print, exit.

fn main() -> std::process::ExitCode {
    rekiln::cli::main()
}
