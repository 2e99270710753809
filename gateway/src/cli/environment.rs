//! The command line beside the environment: an empty variable is one that is not set, as compose files and shells leave them.

use std::ffi::OsStr;

use clap::{Command, Parser, builder::Resettable};

/// What the process was started with; ends it where that makes no sense.
pub fn parse<T: Parser>() -> T {
    let mut matches =
        without_empty(T::command(), &|variable| std::env::var_os(variable).is_some_and(|text| text.is_empty()))
            .get_matches();
    T::from_arg_matches_mut(&mut matches).unwrap_or_else(|error| error.format(&mut T::command()).exit())
}

/// The command, which does not look at variables that are empty.
fn without_empty(command: Command, is_empty: &impl Fn(&OsStr) -> bool) -> Command {
    let command =
        command.mut_args(|arg| if arg.get_env().is_some_and(is_empty) { arg.env(Resettable::Reset) } else { arg });
    command.mut_subcommands(|command| without_empty(command, is_empty))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;

    /// All variables that a command and those under it look at.
    fn variables(command: &Command) -> Vec<String> {
        let own =
            command.get_arguments().filter_map(|arg| arg.get_env()).map(|name| name.to_string_lossy().into_owned());
        own.chain(command.get_subcommands().flat_map(variables)).collect()
    }

    #[test]
    fn no_command_looks_at_an_empty_variable() {
        let all = variables(&<Cli as clap::CommandFactory>::command());
        assert!(all.len() > 10, "{all:?}");
        assert_eq!(
            variables(&without_empty(<Cli as clap::CommandFactory>::command(), &|_| true)),
            Vec::<String>::new()
        );
        assert_eq!(variables(&without_empty(<Cli as clap::CommandFactory>::command(), &|_| false)), all);
    }
}
