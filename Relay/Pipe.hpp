// Pipe -- final delivery to a command, which reads the message and says by its exit code what became of it.
#pragma once

#include <chrono>
#include <span>
#include <string>
#include <vector>

#include "LineEnds.hpp"
#include "Target.hpp"

namespace Net::SMTP {

// Runs a command for each recipient, one after the other, and gives it Return-Path, `head` and the text as its input.
// There is no shell: each argument is one argument, whatever it holds.
//
// {sender} {recipient} {local} {domain} {id} within an argument stand for the addresses ("" for the null sender), the
// recipient's local part without quotes and its domain, and the message's id. What is put in is not looked at again,
// and other braces stay. A local part may hold '/', blanks and what a shell makes something of: a command that makes a
// path or a shell command of it must look.
//
// What the exit code (sysexits.h) is to the sender:
//
//      0               250 2.0.0   delivered          71 OSERR      451 4.3.0
//     64 USAGE         554 5.3.0                      72 OSFILE     554 5.3.0
//     65 DATAERR       554 5.6.0                      73 CANTCREAT  550 5.2.0
//     66 NOINPUT       554 5.3.0                      74 IOERR      451 4.3.0
//     67 NOUSER        550 5.1.1                      75 TEMPFAIL   451 4.3.0
//     68 NOHOST        550 5.1.2                      76 PROTOCOL   554 5.5.0
//     69 UNAVAILABLE   554 5.3.0                      77 NOPERM     550 5.7.0
//     70 SOFTWARE      554 5.3.0                      78 CONFIG     451 4.3.5   an operator can mend it
//
// Any other code, a signal, or a status that somebody else has taken (a SIGCHLD that is ignored, a wait for any child
// in another thread) is 451 4.3.0; a command that can't be started, or is not there, 451 4.3.5. A command is done when
// its process ends: neither what it left unread nor what it left running counts.
//
// What it writes to its output and its errors is read and thrown away, but for the first line that is not blank: up to
// 512 octets of it, cleaned, end the text of the reply.
class Pipe final : public Target {
public:
    struct Options {
        LineEnds line_ends = LineEnds::lf;
        // "NAME=value". The command's environment is this, SENDER, RECIPIENT and, unless it is here, a PATH of the
        // usual folders; nothing of ours.
        std::vector<std::string> environment{};
        std::string folder{};                // where it runs, absolute; empty: where we do
        std::chrono::seconds deadline{300};  // for each recipient; at most a day
    };

    // `command` is the absolute path of a program, in which nothing is replaced, and its arguments.
    // std::invalid_argument names what can't be: another path, a NUL, an entry of the environment that has no name or
    // one of ours, a deadline that is none. Whether the program is there is looked at when it is to run.
    explicit Pipe(std::vector<std::string> command);
    Pipe(std::vector<std::string> command, const Options& options);

    // One reply for each recipient, see above. 553 5.1.3, and nothing runs, for an address with a control character,
    // and for one that would make an option of its argument: "-x@example.org" at the beginning of it. When `wait` or
    // the deadline is over, the command and whatever else is in its process group get SIGTERM, and SIGKILL if need be
    // two seconds later; the reply is 451 4.4.7 then, and for the recipients that come after. So it may take up to four
    // seconds longer than `wait` says.
    std::vector<Reply> deliver(const Sender& from, std::span<const Recipient> to, const Message& message,
                               const std::string& head, const Wait& wait) override;

    // "pipe:" and the program's path.
    std::string name() const override;

private:
    Reply run(const Sender&, const Recipient&, const Message&, const std::string& head, const Wait&) const;

    std::vector<std::string> command_;
    Options options_;
};

}  // namespace Net::SMTP
