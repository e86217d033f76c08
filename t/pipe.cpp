// pipe -- tests of Pipe: what the command gets, what its end means, and that nobody but it is waited for or ended.
#include <doctest/doctest.h>

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sysexits.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <optional>
#include <sstream>

#include "../Relay/Pipe.hpp"
#include "../Server/Turns.hpp"
#include "faults.hpp"
#include "scheduled.hpp"
#include "target.hpp"

using namespace test;
namespace fs = std::filesystem;

namespace {

const Sender sender("me@example.org");
const std::string head = "Received: from here\r\n\tby there; now\r\n";
const std::string front = "Return-Path: <me@example.org>\r\n" + head;
const Message small("Subject: hi\r\n\r\nline\r\n");
const Reply delivered{250, "2.0.0", "Delivered"};

// A program's address: as the parser would never give it.
Recipient recipient(const std::string& local, const std::string& domain = "example.net") {
    Recipient to;
    to.local = local;
    to.domain = domain;
    return to;
}

Reply deliver(Pipe& pipe, const Message& message = small, const Wait& wait = ample(),
              const Recipient& to = recipient("you")) {
    const auto replies = pipe.deliver(sender, std::span(&to, 1), message, head, wait);
    REQUIRE(replies.size() == 1);
    return replies.front();
}

// A script of the shell in a folder of its own; $d in it is the folder, $1 and so on are the arguments.
struct Script {
    explicit Script(const std::string& body, const std::vector<std::string>& arguments = {}, Pipe::Options options = {})
        : pipe(command(body, arguments), with_folder(std::move(options))) {}

    std::string operator/(const std::string& name) const { return folder / name; }
    bool holds(const std::string& name) const { return fs::exists(folder / name); }
    std::string text(const std::string& name) const { return content_of(folder / name); }

    // What a process of the script wrote its number to.
    pid_t process(const std::string& name) const { return pid_t(std::stoi("0" + text(name))); }
    // Whether that process ends soon; it may be a zombie of whoever adopts it.
    bool ends(const std::string& name) const {
        const auto pid = process(name);
        REQUIRE(pid > 1);
        for (const auto until = Clock::now() + patience; Clock::now() < until; std::this_thread::sleep_for(5ms)) {
            const auto stat = content_of("/proc/" + std::to_string(pid) + "/stat");
            if (stat.empty() || stat.find(") Z ") != stat.npos) return true;
        }
        return false;
    }

    // Calls it off as soon as the script has made a file of that name.
    Wait until(const std::string& name) const {
        return {Clock::now() + 60s, [this, name] { return holds(name); }};
    }

    Folder folder;
    Pipe pipe;

private:
    std::vector<std::string> command(const std::string& body, const std::vector<std::string>& arguments) {
        const auto path = folder / "script";
        std::ofstream(path) << "#!/bin/sh\n" << body << '\n';
        chmod(path.c_str(), 0700);
        std::vector<std::string> out{path};
        out.insert(out.end(), arguments.begin(), arguments.end());
        return out;
    }
    Pipe::Options with_folder(Pipe::Options options) const {
        options.environment.push_back("d=" + folder.path);
        return options;
    }
};

Reply outcome(const std::string& body) {
    Script script("cat >/dev/null\n" + body);
    return deliver(script.pipe);
}

std::vector<std::string> lines(const std::string& text, char end = '\n') {
    std::vector<std::string> out;
    std::istringstream in(text);
    for (std::string line; std::getline(in, line, end);) out.push_back(line);
    return out;
}

// Whether the process has no child, ended or not.
bool childless() { return waitpid(-1, nullptr, WNOHANG) == -1 && errno == ECHILD; }

void left_out(const char* what) { MESSAGE("can't " << what << " here: left out"); }

}  // namespace

// ---- what the command gets ----

TEST_CASE("pipe: the command reads Return-Path, head and text, with LF line ends") {
    Script script("cat >$d/got");
    CHECK(deliver(script.pipe) == delivered);
    CHECK(script.text("got") == with_lf(front) + "Subject: hi\n\nline\n");
    CHECK(childless());
}

TEST_CASE("pipe: with crlf every octet comes as it is") {
    Script script("cat >$d/got", {}, {.line_ends = LineEnds::crlf});
    const auto text = octets(700'000) + "\r";
    CHECK(deliver(script.pipe, Message(text)) == delivered);
    CHECK(script.text("got") == front + text);
}

TEST_CASE("pipe: a CR that stands alone is kept with LF line ends too") {
    Script script("cat >$d/got");
    const auto text = octets(300'000, "\r\nx");
    CHECK(deliver(script.pipe, Message(text)) == delivered);
    CHECK(script.text("got") == with_lf(front + text));
}

TEST_CASE("pipe: many megabytes arrive whole, also when the command is slow to begin and talks meanwhile") {
    Script script("head -c 300000 /dev/zero; cat >$d/got; head -c 300000 /dev/zero >&2");
    const auto text = large();
    CHECK(deliver(script.pipe, Message(text)).positive());
    CHECK(script.text("got") == with_lf(front + text));
}

TEST_CASE("pipe: an empty message is Return-Path and head") {
    Script script("cat >$d/got");
    CHECK(deliver(script.pipe, Message()) == delivered);
    CHECK(script.text("got") == with_lf(front));
}

TEST_CASE("pipe: what is between braces is replaced, once, and each argument stays one") {
    Script script("printf '%s\\n' \"$@\" >$d/got", {"{sender}", "--to={recipient}", "{local}@{domain}", "-{local}",
                                                    "{{local}}", "{unknown}", "{", "", "id={id}.", "{local}{local}"});
    const std::string local = "{domain} a'b\";$(touch $d/ran) `touch $d/ran` *";
    CHECK(deliver(script.pipe, small, ample(), recipient(local)) == delivered);
    CHECK(lines(script.text("got")) == std::vector<std::string>{"me@example.org", "--to=" + local + "@example.net",
                                                                local + "@example.net", "-" + local, "{" + local + "}",
                                                                "{unknown}", "{", "", "id=.", local + local});
    CHECK_FALSE(script.holds("ran"));
}

TEST_CASE("pipe: {local} is without quotes, {recipient} as it was written, the null sender empty") {
    Script script("printf '%s\\n' \"$@\" >$d/got", {"{local}", "{recipient}", "<{sender}>"});
    const Recipient to(R"("a \"b"@example.net)");
    CHECK(script.pipe.deliver(Sender(""), std::span(&to, 1), small, "", ample()).front() == delivered);
    CHECK(lines(script.text("got")) == std::vector<std::string>{R"(a "b)", R"("a \"b"@example.net)", "<>"});
}

TEST_CASE("pipe: an address that would become an option is refused, and nothing runs") {
    for (const char* argument : {"{local}", "{recipient}", "{recipient}/", "{sender}{local}"}) {
        CAPTURE(argument);
        Script script("touch $d/ran", {"-f", argument});
        const auto to = recipient("-oQ/tmp");
        const auto reply = script.pipe.deliver(Sender(""), std::span(&to, 1), small, "", ample()).front();
        CHECK(reply.code == 553);
        CHECK(reply.status == "5.1.3");
        CHECK_FALSE(script.holds("ran"));
        CHECK(deliver(script.pipe) == delivered);
    }
    Script script("touch $d/ran", {"{sender}"});
    const auto to = recipient("you");
    CHECK(script.pipe.deliver(Sender("-x@example.org"), std::span(&to, 1), small, "", ample()).front().code == 553);
    CHECK_FALSE(script.holds("ran"));
    // Quotes do not hide it.
    Script local("touch $d/ran", {"{local}"});
    CHECK(deliver(local.pipe, small, ample(), Recipient(R"("-x"@example.net)")).code == 553);
    // Within an argument, or where the operator wrote the dash, it is none.
    Script fine("exit 0", {"--to={local}", "-{local}", "x{local}"});
    CHECK(deliver(fine.pipe, small, ample(), recipient("-x")) == delivered);
}

TEST_CASE("pipe: an address with a control character is refused, and nothing runs") {
    using namespace std::string_literals;
    Script script("touch $d/ran");
    for (const auto& bad : {"a\nb"s, "a\0b"s, "a\rb"s, "\x1b"s, "a\x7f"s}) {
        CAPTURE(escaped(bad));
        for (const auto& to : {recipient(bad), recipient("you", bad)}) {
            const auto reply = deliver(script.pipe, small, ample(), to);
            CHECK(reply.code == 553);
            CHECK(reply.status == "5.1.3");
        }
        Sender from;
        from.local = bad;
        const auto to = recipient("you");
        CHECK(script.pipe.deliver(from, std::span(&to, 1), small, "", ample()).front().code == 553);
    }
    CHECK_FALSE(script.holds("ran"));
}

TEST_CASE("pipe: the environment is what was given, a PATH, SENDER and RECIPIENT") {
    setenv("NOT_FOR_COMMANDS", "1", 1);
    Folder folder;
    const auto got = folder / "got";
    const auto to = recipient("you");
    Pipe plain({"/bin/sh", "-c", "cat /proc/$$/environ >$1", "sh", got});
    CHECK(plain.deliver(sender, std::span(&to, 1), small, "", ample()).front() == delivered);
    CHECK(lines(content_of(got), '\0') == std::vector<std::string>{"PATH=/usr/local/bin:/usr/bin:/bin",
                                                                   "SENDER=me@example.org",
                                                                   "RECIPIENT=you@example.net"});
    Pipe given({"/bin/sh", "-c", "cat /proc/$$/environ >$1", "sh", got},
               {.environment = {"PATH=/bin:/usr/bin", "EMPTY=", "HOME=/x=y"}});
    CHECK(given.deliver(Sender(""), std::span(&to, 1), small, "", ample()).front() == delivered);
    CHECK(lines(content_of(got), '\0') == std::vector<std::string>{"PATH=/bin:/usr/bin", "EMPTY=", "HOME=/x=y",
                                                                   "SENDER=", "RECIPIENT=you@example.net"});
    unsetenv("NOT_FOR_COMMANDS");
}

TEST_CASE("pipe: signals are as a program expects them, whatever the program that delivers did to them") {
    Folder folder;
    const auto got = folder / "got";
    Pipe pipe({"/bin/cp", "/proc/self/status", got});
    sigset_t blocked, before;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGTERM);
    sigaddset(&blocked, SIGCHLD);
    pthread_sigmask(SIG_BLOCK, &blocked, &before);
    const auto handler = signal(SIGPIPE, SIG_IGN);
    const auto reply = deliver(pipe);
    signal(SIGPIPE, handler);
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    CHECK(reply == delivered);
    const auto signals = [status = content_of(got)](const std::string& which) {
        const auto at = status.find(which + ":\t");
        REQUIRE(at != status.npos);
        return std::stoull(status.substr(at + which.size() + 2, 16), nullptr, 16);
    };
    CHECK(signals("SigBlk") == 0);
    // glibc has 32 and 33 for itself, and has them ignored in what it spawns.
    CHECK((signals("SigIgn") & ~0x180000000ULL) == 0);
}

TEST_CASE("pipe: the command is scheduled as programs are, however our threads are") {
    const auto of_a_command = [] {
        Script script(
            "echo $$ >$d/pid.new; mv $d/pid.new $d/pid; cat >/dev/null; until [ -e $d/seen ]; do sleep 0.01; done");
        std::optional<Scheduled> command;
        CHECK(deliver(script.pipe, small, {Clock::now() + patience, [&] {
                                               if (command || !script.holds("pid")) return false;
                                               command.emplace(script.process("pid"));
                                               std::ofstream(script / "seen") << '\n';
                                               return false;
                                           }}) == delivered);
        REQUIRE(command);
        return *command;
    };
    Background thread([&] {
        const Scheduled before;
        CHECK(of_a_command() == before);
        const Turns turns;
        const Scheduled now;
        CHECK(of_a_command() == before);
        CHECK(Scheduled() == now);  // and ours goes on as it did
    });
    thread.join();
}

TEST_CASE("pipe: the command runs in a process group of its own, and in its folder") {
    Folder there;
    Script script("cat /proc/$$/stat >$d/stat; pwd >$d/pwd", {}, {.folder = there.path});
    CHECK(deliver(script.pipe) == delivered);
    std::istringstream stat(script.text("stat"));
    std::string name, state;
    pid_t pid = 0, parent = 0, group = 0;
    stat >> pid >> name >> state >> parent >> group;
    CHECK(pid > 1);
    CHECK(parent == getpid());
    CHECK(group == pid);
    CHECK(script.text("pwd") == there.path + "\n");
}

TEST_CASE("pipe: the command has three descriptors, whatever is open here") {
    const int careless = dup(2);  // not close-on-exec
    Script script("exec ls /proc/self/fd >$d/fds");
    CHECK(deliver(script.pipe) == delivered);
    close(careless);
    // The last is that of the listing.
    CHECK(lines(script.text("fds")) == std::vector<std::string>{"0", "1", "2", "3"});
}

TEST_CASE("pipe: descriptors are close-on-exec while it works, and closed when it is done") {
    Script script("cat >/dev/null");
    Watch watch;
    CHECK(deliver(script.pipe, Message(octets(1'000'000)), watch.wait()) == delivered);
    CHECK(watch.most == 4);
    CHECK(watch.inheritable == 0);
    Pipe missing({"/nowhere/to/be/found"});
    deliver(missing);
    deliver(script.pipe, damaged(500'000, 100'000));
    deliver(script.pipe, small, Wait(Clock::now()));
    CHECK(descriptors() == watch.before);
    CHECK(childless());
}

TEST_CASE("pipe: the standard descriptors may be opened by their names") {
    Script script("cat /dev/stdin >$d/got; echo said >/dev/stderr; echo more >/dev/stdout");
    CHECK(deliver(script.pipe) == Reply{250, "2.0.0", "Delivered: said"});
    CHECK(script.text("got") == with_lf(front) + "Subject: hi\n\nline\n");
}

TEST_CASE("pipe: it delivers where the standard descriptors are closed") {
    Script script("cat >$d/got; echo said >&2");
    std::fflush(nullptr);
    const auto pid = fork();
    if (pid == 0) {
        alarm(60);
        for (int fd = 0; fd < 3; ++fd) close(fd);
        const auto to = recipient("you");
        bool open = false;
        // What somebody here says meanwhile must not get into the mail.
        const Wait wait(Deadline::max(), [&] {
            for (int fd = 0; fd < 3; ++fd) open |= write(fd, "x", 1) >= 0 || errno != EBADF;
            return false;
        });
        const auto reply = script.pipe.deliver(sender, std::span(&to, 1), Message(octets(200'000, "y")), head, wait);
        _exit(reply.front().text == "Delivered: said" && !open ? 0 : 1);
    }
    int status = -1;
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(status == 0);
    CHECK(script.text("got") == with_lf(front) + std::string(200'000, 'y'));
}

// ---- what its end means ----

TEST_CASE("pipe: exit codes mean what sysexits.h says") {
    struct Row {
        int code;
        int reply;
        std::string status;
    };
    const std::vector<Row> rows{
        {EX_OK, 250, "2.0.0"},
        {EX_USAGE, 554, "5.3.0"},
        {EX_DATAERR, 554, "5.6.0"},
        {EX_NOINPUT, 554, "5.3.0"},
        {EX_NOUSER, 550, "5.1.1"},
        {EX_NOHOST, 550, "5.1.2"},
        {EX_UNAVAILABLE, 554, "5.3.0"},
        {EX_SOFTWARE, 554, "5.3.0"},
        {EX_OSERR, 451, "4.3.0"},
        {EX_OSFILE, 554, "5.3.0"},
        {EX_CANTCREAT, 550, "5.2.0"},
        {EX_IOERR, 451, "4.3.0"},
        {EX_TEMPFAIL, 451, "4.3.0"},
        {EX_PROTOCOL, 554, "5.5.0"},
        {EX_NOPERM, 550, "5.7.0"},
        {EX_CONFIG, 451, "4.3.5"},
        {1, 451, "4.3.0"},
        {63, 451, "4.3.0"},
        {79, 451, "4.3.0"},
        {126, 451, "4.3.0"},
        {127, 451, "4.3.0"},
        {255, 451, "4.3.0"},
    };
    for (const auto& row : rows) {
        CAPTURE(row.code);
        const auto reply = outcome("exit " + std::to_string(row.code));
        CHECK(reply.code == row.reply);
        CHECK(reply.status == row.status);
        CHECK_FALSE(reply.text.empty());
    }
}

TEST_CASE("pipe: a command ended by a signal is 451") {
    for (const char* name : {"KILL", "TERM", "SEGV", "PIPE"}) {
        CAPTURE(name);
        const auto reply = outcome(std::string("kill -") + name + " $$");
        CHECK(reply.code == 451);
        CHECK(reply.status == "4.3.0");
    }
    CHECK(outcome("kill -9 $$").text == "The command was ended by signal 9");
    CHECK(childless());
}

TEST_CASE("pipe: a command that is killed by somebody else in the middle of the text is 451") {
    Script script("head -c 1 >/dev/null; echo $$ >$d/pid.new; mv $d/pid.new $d/pid; exec sleep 1000");
    bool killed = false;
    const Wait wait(Clock::now() + 60s, [&] {
        if (!killed && script.holds("pid")) killed = kill(script.process("pid"), SIGKILL) == 0;
        return false;
    });
    CHECK(deliver(script.pipe, Message(octets(1'000'000)), wait).text == "The command was ended by signal 9");
    CHECK(killed);
}

TEST_CASE("pipe: a command that is not there, or is none, is 451 4.3.5 and no path is told") {
    Folder folder;
    std::ofstream(folder / "plain") << "exit 0\n";
    std::ofstream(folder / "no_such_shell") << "#!/nowhere/sh\n";
    chmod((folder / "no_such_shell").c_str(), 0700);
    for (const auto& path :
         {folder / "missing", folder / "plain", folder / "plain/below", folder.path, folder / "no_such_shell"}) {
        CAPTURE(path);
        Pipe pipe({path});
        const auto reply = deliver(pipe);
        CHECK(reply.code == 451);
        CHECK(reply.status == "4.3.5");
        CHECK(reply.text.find(folder.path) == reply.text.npos);
    }
    Pipe nowhere({"/bin/true"}, {.folder = folder / "missing"});
    CHECK(deliver(nowhere).status == "4.3.5");
    CHECK(childless());
}

TEST_CASE("pipe: an argument longer than the system takes is 451") {
    Pipe pipe({"/bin/true", "{local}"});
    const auto reply = deliver(pipe, small, ample(), recipient(std::string(5'000'000, 'x')));
    CHECK(reply.code == 451);
    CHECK(reply.status == "4.3.0");
}

TEST_CASE("pipe: the exit code decides, not whether the text was read") {
    const Message text(large());
    const auto end = [&](const std::string& body) {
        Script script(body);
        return deliver(script.pipe, text);
    };
    CHECK(end("exit 0") == delivered);
    CHECK(end("exit 67").code == 550);
    CHECK(end("head -c 100000 >/dev/null; exit 0") == delivered);
    CHECK(end("exec <&-; echo closed; exit 0").text == "Delivered: closed");
    CHECK(end("exec >&- 2>&-; cat >/dev/null; exit 67").code == 550);
}

TEST_CASE("pipe: what the command leaves running does not hold us") {
    Script script("cat >/dev/null; sleep 1000 & echo $! >$d/pid; echo said; exit 0");
    const auto start = Clock::now();
    CHECK(deliver(script.pipe).text == "Delivered: said");
    CHECK(Clock::now() - start < patience);
    // Nor is it ended.
    CHECK(kill(script.process("pid"), SIGKILL) == 0);

    Script flood("cat >/dev/null; yes & echo $! >$d/pid; exit 0");
    CHECK(deliver(flood.pipe).positive());
    CHECK(kill(flood.process("pid"), SIGKILL) == 0);
}

TEST_CASE("pipe: each recipient has a run and a reply of its own") {
    Script script("cat >>$d/got; echo \"$RECIPIENT\" >>$d/order; case $1 in a) exit 0;; b) exit 67;; *) exit 75;; esac",
                  {"{local}"});
    const std::vector<Recipient> to{recipient("a"), recipient("b"), recipient("c"), recipient("-"), recipient("a")};
    const auto replies = script.pipe.deliver(sender, to, small, "", ample());
    REQUIRE(replies.size() == 5);
    CHECK(replies[0] == delivered);
    CHECK(replies[1].code == 550);
    CHECK(replies[2].code == 451);
    CHECK(replies[3].code == 553);
    CHECK(replies[4] == delivered);
    CHECK(lines(script.text("order")) ==
          std::vector<std::string>{"a@example.net", "b@example.net", "c@example.net", "a@example.net"});
    const std::string one = "Return-Path: <me@example.org>\nSubject: hi\n\nline\n";
    CHECK(script.text("got") == one + one + one + one);
    CHECK(script.pipe.deliver(sender, {}, small, "", ample()).empty());
}

TEST_CASE("pipe: eight threads deliver at once") {
    Script script("cat >$d/$1; exit $2", {"{local}", "{domain}"});
    std::atomic<int> right{0};
    {
        std::vector<Background> threads;
        for (int t = 0; t < 8; ++t)
            threads.emplace_back([&, t] {
                for (int i = 0; i < 10; ++i) {
                    const auto name = std::to_string(t * 10 + i);
                    const auto to = recipient(name, i % 2 ? "67" : "0");
                    const auto reply =
                        script.pipe.deliver(sender, std::span(&to, 1), Message(name), "", ample()).front();
                    right += reply.code == (i % 2 ? 550 : 250) &&
                             script.text(name) == "Return-Path: <me@example.org>\n" + name;
                }
            });
        for (auto& thread : threads) thread.join(60s);
    }
    CHECK(right == 80);
    CHECK(childless());
}

// ---- what it says ----

TEST_CASE("pipe: the first line that is not blank goes into the reply, cleaned") {
    CHECK(outcome("printf '\\n \\t\\r\\n  Over quota \\r\\nmore\\n'; exit 75").text ==
          "The command wants to be asked again: Over quota");
    CHECK(outcome("echo 'no newline' | tr -d '\\n' >&2; exit 67").text == "No such user: no newline");
    CHECK(outcome("printf 'a\\tb\\033[31m\\0\\177\\n'; exit 67").text == "No such user: a b?[31m??");
    CHECK(outcome("printf 'gr\\303\\274n\\n'; exit 67").text == "No such user: gr\xC3\xBCn");
    CHECK(outcome("printf 'gr\\374n\\n'; exit 67").text == "No such user: gr?n");
    CHECK(outcome("printf 'a\\302\\233b\\n'; exit 67").text == "No such user: a?b");
    CHECK(outcome("printf '\\n\\n \\n'; exit 67").text == "No such user");
    CHECK(outcome("echo oops; kill -9 $$").text == "The command was ended by signal 9: oops");
}

TEST_CASE("pipe: no more than 512 octets of it, and no half of a character") {
    const auto said = [](const std::string& line) {
        Script script("cat >/dev/null; cat $d/line");
        std::ofstream(script / "line") << line;
        return deliver(script.pipe).text.substr(std::string("Delivered: ").size());
    };
    CHECK(said(std::string(511, 'x') + "\n") == std::string(511, 'x'));
    CHECK(said(std::string(512, 'x') + "\n") == std::string(512, 'x'));
    CHECK(said(std::string(513, 'x') + "\n") == std::string(512, 'x'));
    CHECK(said(std::string(511, 'x') + "\xC3\xBC\n") == std::string(511, 'x'));
    CHECK(said(std::string(510, 'x') + "\xC3\xBC\n") == std::string(510, 'x') + "\xC3\xBC");
    CHECK(said(std::string(509, 'x') + "\xF0\x9F\x93\xA7\n") == std::string(509, 'x'));
    CHECK(said(std::string(100'000, '\xFC')).find_first_not_of('?') == std::string::npos);
}

TEST_CASE("pipe: a flood of output is read and thrown away") {
    const auto text = octets(1'000'000, "x");
    for (const std::string flood : {"head -c 50000000 /dev/zero", "yes | head -c 50000000"}) {
        CAPTURE(flood);
        Script script(flood + "; cat >$d/got; exit 0");
        const auto reply = deliver(script.pipe, Message(text));
        CHECK(reply.positive());
        CHECK(reply.text == "Delivered: " + (flood[0] == 'y' ? "y" : std::string(512, '?')));
        CHECK(script.text("got").ends_with(text));
    }
}

// ---- time ----

TEST_CASE("pipe: nothing runs when the time is over before") {
    Script script("touch $d/ran");
    const Reply late{451, "4.4.7", "There was no time left for the command"};
    CHECK(deliver(script.pipe, small, Wait(Clock::now())) == late);
    CHECK(deliver(script.pipe, small, Wait(Deadline::max(), [] { return true; })) == late);
    CHECK_FALSE(script.holds("ran"));
}

TEST_CASE("pipe: a command that never reads is ended, with all its group") {
    Script script("sleep 1000 & echo $! >$d/other; echo $$ >$d/pid; echo working; touch $d/ready; wait");
    CHECK(deliver(script.pipe, Message(large()), script.until("ready")) ==
          Reply{451, "4.4.7", "The command did not end in time: working"});
    CHECK(script.ends("pid"));
    CHECK(script.ends("other"));
    CHECK(childless());
}

TEST_CASE("pipe: a command that never ends is ended at its deadline, or at that of the delivery") {
    Script script("cat >/dev/null; exec sleep 1000", {}, {.deadline = 1s}), patient("cat >/dev/null; exec sleep 1000");
    auto start = Clock::now();
    CHECK(deliver(script.pipe) == Reply{451, "4.4.7", "The command did not end in time"});
    CHECK(Clock::now() - start >= 1s);
    CHECK(Clock::now() - start < patience);
    start = Clock::now();
    CHECK(deliver(patient.pipe, small, Wait(start + 500ms)).status == "4.4.7");
    CHECK(Clock::now() - start >= 500ms);
    CHECK(Clock::now() - start < patience);
    CHECK(childless());
}

TEST_CASE("pipe: a command that has ended in time is not too late") {
    Script script("cat >/dev/null; echo $$ >$d/pid; touch $d/ready; until [ -e $d/go ]; do sleep 0.02; done");
    bool ended = false;
    const Wait wait(Clock::now() + 60s, [&] {
        if (ended) return true;
        if (!script.holds("ready")) return false;
        std::ofstream(script / "go");
        ended = script.ends("pid");
        return false;
    });
    CHECK(deliver(script.pipe, small, wait) == delivered);
    CHECK(ended);
}

TEST_CASE("pipe: a command is ended when the delivery is called off, and the next ones do not run") {
    Script script("echo x >>$d/runs; touch $d/ready; cat >/dev/null; exec sleep 1000");
    const std::vector<Recipient> to{recipient("a"), recipient("b")};
    const auto replies = script.pipe.deliver(sender, to, small, "", script.until("ready"));
    REQUIRE(replies.size() == 2);
    CHECK(replies[0].status == "4.4.7");
    CHECK(replies[1].status == "4.4.7");
    CHECK(script.text("runs") == "x\n");
}

TEST_CASE("pipe: SIGTERM lets a command tidy up, but what it says then is too late") {
    Script script("trap 'touch $d/tidied; exit 0' TERM; cat >/dev/null; touch $d/ready; while :; do sleep 0.01; done");
    CHECK(deliver(script.pipe, small, script.until("ready")).status == "4.4.7");
    CHECK(script.holds("tidied"));
}

TEST_CASE("pipe: a command that ignores SIGTERM is killed two seconds later, with all its group") {
    Script script(
        "trap '' TERM; sleep 1000 & echo $! >$d/other; echo $$ >$d/pid; touch $d/ready; "
        "while :; do sleep 0.1; done");
    const auto start = Clock::now();
    CHECK(deliver(script.pipe, small, script.until("ready")).status == "4.4.7");
    CHECK(Clock::now() - start >= 2s);
    CHECK(Clock::now() - start < 2s + patience);
    CHECK(script.ends("pid"));
    CHECK(script.ends("other"));
    CHECK(childless());
}

TEST_CASE("pipe: one of the group that ignores SIGTERM is killed though the command itself has ended") {
    for (const char* where : {"", " >/dev/null 2>&1"}) {
        CAPTURE(where);
        Script script(std::string("(trap '' TERM; exec sleep 1000)") + where +
                      " & echo $! >$d/other; "
                      // Until the other one has execed, it may still have no trap.
                      "until grep -q sleep /proc/$!/comm; do :; done; touch $d/ready; wait");
        CHECK(deliver(script.pipe, small, script.until("ready")).status == "4.4.7");
        CHECK(script.ends("other"));
    }
}

TEST_CASE("pipe: one of the group has its two seconds though the command itself has ended") {
    Script script(
        "(trap 'sleep 0.3; touch $d/tidied; exit' TERM; touch $d/ready; while :; do sleep 0.02; done) & wait");
    CHECK(deliver(script.pipe, small, script.until("ready")).status == "4.4.7");
    CHECK(script.holds("tidied"));
}

TEST_CASE("pipe: a command that floods us for ever is ended") {
    Script script("exec yes");
    const auto start = Clock::now();
    CHECK(deliver(script.pipe, Message(octets(1'000'000)), Wait(start + 500ms)).status == "4.4.7");
    CHECK(Clock::now() - start < patience);
}

TEST_CASE("pipe: a command that is ended has not seen the end of a text it did not get") {
    // Else it might keep half a message, and say that all is well. This one begins to read when it is told to end.
    Script late(
        "trap 'touch $d/told' TERM; touch $d/ready; until [ -e $d/told ]; do sleep 0.02; done; "
        "cat >/dev/null; touch $d/kept");
    CHECK(deliver(late.pipe, Message(octets(1'000'000)), late.until("ready")).status == "4.4.7");
    CHECK(late.holds("told"));
    CHECK_FALSE(late.holds("kept"));
    // A message whose octets can't be had.
    Script script("cat >/dev/null; touch $d/kept");
    const auto reply = deliver(script.pipe, damaged(500'000, 200'000));
    CHECK(reply.code == 451);
    CHECK(reply.status == "4.3.0");
    CHECK_FALSE(script.holds("kept"));
    CHECK(childless());
}

TEST_CASE("pipe: a question that throws ends the command") {
    Script script("echo $$ >$d/pid.new; mv $d/pid.new $d/pid; exec sleep 1000");
    const Wait wait(Clock::now() + 60s, [&]() -> bool {
        if (script.holds("pid")) throw std::runtime_error("no");
        return false;
    });
    CHECK_THROWS_AS(deliver(script.pipe, small, wait), std::runtime_error);
    CHECK(script.ends("pid"));
    CHECK(childless());
}

TEST_CASE("pipe: a message that went into a sink is 451, and nothing runs") {
    Script script("touch $d/ran");
    for (std::size_t size : {0, 5}) CHECK(deliver(script.pipe, sunk(size)).code == 451);
    CHECK_FALSE(script.holds("ran"));
}

// ---- a status somebody else has, a system that refuses ----

TEST_CASE("pipe: where SIGCHLD is ignored nobody can say how it ended: 451") {
    const auto handler = signal(SIGCHLD, SIG_IGN);
    const auto reply = outcome("exit 0");
    Script script("trap '' TERM; (sleep 1000) & echo $! >$d/other; touch $d/ready; while :; do sleep 0.1; done");
    const auto ended = deliver(script.pipe, small, script.until("ready"));
    signal(SIGCHLD, handler);
    CHECK(reply == Reply{451, "4.3.0", "Nobody knows how the command ended"});
    CHECK(ended.status == "4.4.7");
    CHECK(script.ends("other"));
}

TEST_CASE("pipe: when somebody else's wait takes the status it is 451") {
    Script script("cat >/dev/null; mkfifo $d/fifo; touch $d/ready; cat $d/fifo; exit 0");
    pid_t stolen = 0;
    const Wait wait(Clock::now() + 60s, [&] {
        if (stolen == 0 && script.holds("ready")) {
            std::ofstream(script / "fifo") << "go\n";
            stolen = waitpid(-1, nullptr, 0);
        }
        return false;
    });
    CHECK(deliver(script.pipe, small, wait) == Reply{451, "4.3.0", "Nobody knows how the command ended: go"});
    CHECK(stolen > 0);
}

TEST_CASE("pipe: a thread that waits for any child may cost a success, but never makes one") {
    std::atomic<bool> done{false};
    Background thief([&] {
        while (!done)
            if (waitpid(-1, nullptr, WNOHANG) <= 0) std::this_thread::yield();
    });
    int wrong = 0;
    Script refusing("exit 67"), taking("exit 0");
    for (int i = 0; i < 50; ++i) {
        const auto no = deliver(refusing.pipe), yes = deliver(taking.pipe);
        wrong += no.code != 550 && no.code != 451;
        wrong += yes.code != 250 && yes.code != 451;
    }
    done = true;
    thief.join();
    CHECK(wrong == 0);
}

TEST_CASE("pipe: where a process can't be held by a descriptor it is ended before it sees the text") {
    Script script("cat >$d/got; touch $d/kept; exit 0");
    Reply reply;
    const auto before = descriptors();
    if (!with_faults(
            {SYS_pidfd_open}, [](int, const std::string&) { return EMFILE; }, [&] { reply = deliver(script.pipe); }))
        return left_out("make calls fail");
    CHECK(reply.code == 451);
    CHECK(reply.status == "4.3.0");
    CHECK_FALSE(script.holds("kept"));
    CHECK(childless());
    CHECK(descriptors() == before);
}

TEST_CASE("pipe: on a system that can't signal a group by descriptor it is done by number") {
    Script script(
        "trap '' TERM; sleep 1000 & echo $! >$d/other; echo $$ >$d/pid; touch $d/ready; "
        "while :; do sleep 0.1; done");
    Reply reply;
    if (!with_faults(
            {SYS_pidfd_send_signal}, [](int, const std::string&) { return EINVAL; },
            [&] { reply = deliver(script.pipe, small, script.until("ready")); }))
        return left_out("make calls fail");
    CHECK(reply.status == "4.4.7");
    CHECK(script.ends("pid"));
    CHECK(script.ends("other"));
    CHECK(childless());
}

TEST_CASE("pipe: without descriptors left it is 451") {
    Script script("exit 0");
    Reply reply;
    if (!with_faults(
            {SYS_pipe2}, [](int, const std::string&) { return EMFILE; }, [&] { reply = deliver(script.pipe); }))
        return left_out("make calls fail");
    CHECK(reply.code == 451);
    CHECK(reply.status == "4.3.0");
}

// ---- what it is made of ----

TEST_CASE("pipe: what can't be a command is refused and named") {
    const std::string nul("/bin/a\0b", 8);
    CHECK_THROWS_AS(Pipe({}), std::invalid_argument);
    CHECK_THROWS_WITH_AS(Pipe({"cat"}), doctest::Contains("cat"), std::invalid_argument);
    CHECK_THROWS_WITH_AS(Pipe({"bin/cat"}), doctest::Contains("bin/cat"), std::invalid_argument);
    CHECK_THROWS_AS(Pipe({""}), std::invalid_argument);
    CHECK_THROWS_AS(Pipe({nul}), std::invalid_argument);
    CHECK_THROWS_AS(Pipe({"/bin/cat", nul}), std::invalid_argument);
    const auto refused = [](const Pipe::Options& options) {
        CHECK_THROWS_AS(Pipe({"/bin/cat"}, options), std::invalid_argument);
    };
    refused({.environment = {"novalue"}});
    refused({.environment = {"=x"}});
    refused({.environment = {""}});
    refused({.environment = {"A=" + nul}});
    refused({.environment = {"SENDER=x"}});
    refused({.environment = {"RECIPIENT=x"}});
    refused({.folder = "here"});
    refused({.folder = nul});
    refused({.deadline = 0s});
    refused({.deadline = -1s});
    refused({.deadline = 86'401s});
    CHECK(Pipe({"/bin/cat", "-"}, {.deadline = 86'400s}).name() == "pipe:/bin/cat");
}
