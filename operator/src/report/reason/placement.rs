//! Reasons of Events on a Placement: of what concerns a whole namespace, or Streams that are not there.

use super::Event::Warning;
use super::{Reason, reasons, to};
use crate::report::advice::Act;

reasons! {
    REMOVAL_HELD = Reason::waits(
        "RemovalHeld",
        Warning,
        "More than 10 and more than 20 % of a namespace's Streams vanished at once",
        "Their streams run on for ten minutes, and are stopped at the time in the message",
        &[
            to("to keep them", Act::Say("apply their Streams again, from wherever they are kept")),
            to("to let them go at once", Act::ConfirmRemoval),
        ],
    );
}
