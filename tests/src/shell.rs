//! A shell that runs a server for as long as its standard input is open, and answers each order with a line.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdout, Command, Stdio},
    sync::{Mutex, PoisonError},
};

/// The shell, which ends its server and itself when it is dropped or the process ends.
pub(crate) struct Shell(Mutex<Running>);

struct Running {
    child: Child,
    answers: BufReader<ChildStdout>,
}

impl Shell {
    pub fn run(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a shell can be started");
        let answers = BufReader::new(child.stdout.take().expect("piped"));
        Self(Mutex::new(Running { child, answers }))
    }

    /// Gives an order; when this returns it is carried out.
    pub fn order(&self, order: &str) {
        let mut shell = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(shell.child.stdin.as_mut().expect("piped"), "{order}").expect("the shell runs");
        shell.answers.read_line(&mut String::new()).expect("the shell answers");
    }

    /// Whether it has ended, which it does by itself where its server cannot start.
    pub fn has_ended(&self) -> bool {
        let mut shell = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        shell.child.try_wait().expect("a child").is_some()
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let shell = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        drop(shell.child.stdin.take());
        // It has nothing more to say whether it ended well or not.
        let _ = shell.child.wait();
    }
}
