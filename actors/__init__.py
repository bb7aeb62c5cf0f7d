"""One async function each: receive, step, act. An actor knows its mailbox and its ports, not its colleagues."""
