"""The commands behind `./rig`: up, down and test, on the machine where you type them."""
