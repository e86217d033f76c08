// maildir -- tests of Maildir: what is in the file, that it is whole or not there, and what the sender hears.
#include <doctest/doctest.h>

#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <atomic>
#include <csignal>
#include <cstdio>
#include <regex>
#include <set>

#include "../Relay/FinalText.hpp"
#include "../Relay/Maildir.hpp"
#include "faults.hpp"
#include "target.hpp"

using namespace test;
namespace fs = std::filesystem;

namespace {

const Sender sender("me@example.org");
const std::string head = "Received: from here\r\n\tby there; now\r\n";
const std::string front = "Return-Path: <me@example.org>\n";

std::vector<Recipient> recipients(std::size_t count = 1) {
    std::vector<Recipient> out;
    for (std::size_t i = 0; i < count; ++i) out.emplace_back("to" + std::to_string(i) + "@example.net");
    return out;
}

void left_out(const char* what) { MESSAGE("can't " << what << " here: left out"); }

std::vector<std::string> files(const std::string& folder) {
    std::vector<std::string> all;
    for (const auto& entry : fs::directory_iterator(folder)) all.push_back(entry.path());
    return all;
}

unsigned mode_of(const std::string& path) {
    struct stat s {};
    return stat(path.c_str(), &s) == 0 ? s.st_mode & 07777 : 0;
}

// A maildir that is not there yet.
struct Box {
    explicit Box(const Maildir::Options& options = {}) : path(folder / "box"), maildir(path, options) {}

    Reply deliver(const Message& message, const Wait& wait = ample()) {
        const auto to = recipients();
        const auto replies = maildir.deliver(sender, to, message, head, wait);
        REQUIRE(replies.size() == 1);
        return replies.front();
    }
    std::string only() const {
        const auto all = files(path + "/new");
        REQUIRE(all.size() == 1);
        return content_of(all.front());
    }
    // Neither delivered nor half delivered.
    bool empty() const {
        for (const char* inner : {"/tmp", "/new", "/cur"})
            if (fs::exists(path + inner) && !files(path + inner).empty()) return false;
        return true;
    }

    Folder folder;
    std::string path;
    Maildir maildir;
};

std::string text_of(const std::string& message, LineEnds line_ends) {
    FinalText text(sender, head, Message(message), line_ends);
    std::string out;
    for (auto piece = text.next(); !piece.empty(); piece = text.next()) {
        CHECK(piece.size() <= FinalText::piece);
        out += piece;
    }
    CHECK(text.next().empty());
    return out;
}

}  // namespace

// ---- the text ----

TEST_CASE("maildir: a message becomes a file of new, with Return-Path, head and LF line ends") {
    Box box;
    CHECK(box.deliver(Message("Subject: hi\r\n\r\nline\r\n.\r\n")) == Reply{250, "2.0.0", "Delivered"});
    CHECK(box.only() == front + "Received: from here\n\tby there; now\nSubject: hi\n\nline\n.\n");
    CHECK(files(box.path + "/tmp").empty());
    CHECK(files(box.path + "/cur").empty());
}

TEST_CASE("maildir: with crlf every octet stays as it came") {
    Box box({.line_ends = LineEnds::crlf});
    const auto text = octets(300'000);
    CHECK(box.deliver(Message(text)).positive());
    CHECK(box.only() == "Return-Path: <me@example.org>\r\n" + head + text);
}

TEST_CASE("maildir: a CR or LF that stands alone is kept, wherever a piece ends") {
    CHECK(text_of("a\rb\nc\r\r\nd\n\r\r", LineEnds::lf) ==
          with_lf("Return-Path: <me@example.org>\r\n" + head) + "a\rb\nc\r\nd\n\r\r");
    const auto before = FinalText::piece - front.size() - head.size() - 1;
    for (const std::string end : {"\r\n", "\r", "\n", "\r\r\n", "\r\n\r\n", "\rx", "\r\n\r"})
        for (std::size_t i = 0; i < 6; ++i) {
            const auto text = std::string(before - 3 + i, 'x') + end;
            const auto whole = "Return-Path: <me@example.org>\r\n" + head + text;
            CHECK(text_of(text, LineEnds::lf) == with_lf(whole));
            CHECK(text_of(text, LineEnds::crlf) == whole);
            CHECK(text_of(text + std::string(100'000, 'y'), LineEnds::lf) ==
                  with_lf(whole + std::string(100'000, 'y')));
        }
}

TEST_CASE("maildir: any mixture of line ends comes through as if it were looked at octet by octet") {
    for (std::size_t size : {0, 1, 2, 3, 1'000, 65'000, 65'536, 200'001}) {
        const auto text = octets(size, "\r\nx");
        CHECK(text_of(text, LineEnds::lf) == with_lf("Return-Path: <me@example.org>\r\n" + head + text));
    }
    const std::string crs(200'000, '\r');
    CHECK(text_of(crs + "\n", LineEnds::lf).ends_with(crs.substr(1) + "\n"));
}

TEST_CASE("maildir: the null sender's Return-Path is <>") {
    Box box;
    const auto to = recipients();
    CHECK(box.maildir.deliver(Sender(""), to, Message("x\r\n"), "", ample()).front().positive());
    CHECK(box.only() == "Return-Path: <>\nx\n");
}

TEST_CASE("maildir: many megabytes arrive whole") {
    Box box;
    const auto text = large();
    CHECK(box.deliver(Message(text)).positive());
    CHECK(box.only() == with_lf("Return-Path: <me@example.org>\r\n" + head + text));
}

// ---- folders, names, recipients ----

TEST_CASE("maildir: a path that is not absolute is refused and named") {
    for (const std::string path : {"", "box", "./box", "~/box"}) {
        CAPTURE(path);
        CHECK_THROWS_WITH_AS(Maildir{path}, doctest::Contains(path.c_str()), std::invalid_argument);
    }
    CHECK_THROWS_WITH_AS(Maildir(std::string("/tmp/a\0b", 8)), doctest::Contains("/tmp/a"), std::invalid_argument);
    CHECK_THROWS_AS(Maildir("/"), std::invalid_argument);
    CHECK_THROWS_AS(Maildir("//"), std::invalid_argument);
    CHECK(Maildir("/var/mail/me/").name() == "maildir:/var/mail/me");
}

TEST_CASE("maildir: the constructor makes nothing, the first delivery what is missing") {
    Box box;
    CHECK_FALSE(fs::exists(box.path));
    const auto mask = umask(0);
    CHECK(box.deliver(Message("x\r\n")).positive());
    umask(mask);
    for (const char* inner : {"", "/tmp", "/new", "/cur"}) CHECK(mode_of(box.path + inner) == 0700);
    CHECK(mode_of(files(box.path + "/new").front()) == 0600);

    Folder half;
    fs::create_directories(half / "box/cur");
    Maildir maildir(half / "box", {.mode = 0640});
    const auto to = recipients();
    CHECK(maildir.deliver(sender, to, Message("x"), "", ample()).front().positive());
    CHECK(mode_of(files(half / "box/new").front()) == 0640);
}

TEST_CASE("maildir: a maildir whose folder is not there is 451, and no path is told") {
    Folder folder;
    Maildir maildir(folder / "far/box");
    const auto to = recipients();
    const auto reply = maildir.deliver(sender, to, Message("x"), "", ample()).front();
    CHECK(reply.code == 451);
    CHECK(reply.status == "4.3.0");
    CHECK(reply.text.find(folder.path) == reply.text.npos);
    CHECK(folder.names().empty());
    fs::create_directory(folder / "far");
    CHECK(maildir.deliver(sender, to, Message("x"), "", ample()).front().positive());
}

TEST_CASE("maildir: one that was removed is made anew by the next but one delivery") {
    Box box;
    CHECK(box.deliver(Message("x")).positive());
    fs::remove_all(box.path);
    CHECK(box.deliver(Message("x")).code == 451);
    CHECK(box.deliver(Message("x")).positive());
    CHECK(files(box.path + "/new").size() == 1);
}

TEST_CASE("maildir: a file where a folder should be is 451") {
    Box box;
    fs::create_directory(box.path);
    std::ofstream(box.path + "/new") << "here";
    CHECK(box.deliver(Message("x")).code == 451);
    CHECK(content_of(box.path + "/new") == "here");
    CHECK(files(box.path + "/tmp").empty());
}

TEST_CASE("maildir: one file and the same reply for all recipients, nothing for none") {
    Box box;
    const auto to = recipients(3);
    const auto replies = box.maildir.deliver(sender, to, Message("x"), head, ample());
    CHECK(replies == std::vector<Reply>(3, {250, "2.0.0", "Delivered"}));
    CHECK(files(box.path + "/new").size() == 1);
    CHECK(box.maildir.deliver(sender, {}, Message("x"), head, ample()).empty());
    CHECK(files(box.path + "/new").size() == 1);
}

TEST_CASE("maildir: a name tells time, process and size, and holds nothing of a host that would mean something") {
    Box box({.hostname = "a/b:c,d.example"});
    const auto before = std::time(nullptr);
    CHECK(box.deliver(Message("x\r\n")).positive());
    const auto path = files(box.path + "/new").front();
    const std::string name = fs::path(path).filename();
    std::smatch parts;
    REQUIRE(std::regex_match(name, parts, std::regex(R"((\d+)\.M(\d{6})P(\d+)Q1R[0-9a-f]{16}\.(.*),S=(\d+))")));
    CHECK(std::stol(parts[1]) >= before);
    CHECK(std::stol(parts[1]) <= std::time(nullptr));
    CHECK(std::stol(parts[3]) == getpid());
    CHECK(parts[4] == R"(a\057b\072c\054d.example)");
    CHECK(std::stoul(parts[5]) == fs::file_size(path));

    Box far({.hostname = std::string(300, '/')});
    CHECK(far.deliver(Message("x")).positive());
    CHECK(files(far.path + "/new").size() == 1);
}

// ---- several at once ----

TEST_CASE("maildir: 1,000 deliveries of 8 threads are 1,000 whole files") {
    Box box;
    constexpr int threads = 8, each = 125;
    std::atomic<int> delivered{0};
    {
        std::vector<Background> all;
        for (int t = 0; t < threads; ++t)
            all.emplace_back([&, t] {
                const auto to = recipients();
                for (int i = 0; i < each; ++i) {
                    const auto name = std::to_string(t * each + i);
                    const Message message(name + "\r\n" + std::string(std::size_t(i) * 200, 'x') + "\r\n" + name);
                    if (box.maildir.deliver(sender, to, message, "", ample()).front().positive()) ++delivered;
                }
            });
        for (auto& t : all) t.join(60s);
    }
    CHECK(delivered == threads * each);
    std::set<std::string> texts;
    for (const auto& path : files(box.path + "/new")) texts.insert(content_of(path));
    CHECK(texts.size() == threads * each);
    int whole = 0;
    for (int n = 0; n < threads * each; ++n) {
        const auto name = std::to_string(n);
        whole += texts.contains(front + name + "\n" + std::string(std::size_t(n % each) * 200, 'x') + "\n" + name);
    }
    CHECK(whole == threads * each);
    CHECK(files(box.path + "/tmp").empty());
}

TEST_CASE("maildir: forked children deliver into it at once, with one object") {
    Box box;
    std::vector<pid_t> children;
    std::fflush(nullptr);
    for (int child = 0; child < 4; ++child) {
        const auto pid = fork();
        if (pid == 0) {
            alarm(60);
            const auto to = recipients();
            int failed = 0;
            for (int i = 0; i < 50; ++i)
                failed += !box.maildir.deliver(sender, to, Message("x"), "", ample()).front().positive();
            _exit(failed);
        }
        children.push_back(pid);
    }
    for (const auto pid : children) {
        int status = -1;
        CHECK(waitpid(pid, &status, 0) == pid);
        CHECK(status == 0);
    }
    CHECK(files(box.path + "/new").size() == 200);
}

// ---- time ----

TEST_CASE("maildir: nothing is left when the time was over at once") {
    Box box;
    const auto reply = box.deliver(Message("x"), Wait(Clock::now()));
    CHECK(reply.code == 451);
    CHECK(reply.status == "4.4.7");
    CHECK(box.empty());
}

TEST_CASE("maildir: nothing is left when it is called off on the way, or at the last moment") {
    // 300,000 octets and what is in front are five pieces; the sixth question comes when all is written.
    for (int questions : {1, 3, 5, 6}) {
        CAPTURE(questions);
        Box box;
        int asked = 0;
        CHECK(box.deliver(Message(octets(300'000, "x")), Wait(Deadline::max(), [&] { return ++asked == questions; }))
                  .status == "4.4.7");
        CHECK(asked == questions);
        CHECK(box.empty());
    }
    Box box;
    int asked = 0;
    CHECK(box.deliver(Message(octets(300'000, "x")), Wait(Deadline::max(), [&] { return ++asked == 7; })).positive());
    CHECK(asked == 6);
}

TEST_CASE("maildir: nothing is left when the question itself throws") {
    Box box;
    const Wait wait(Deadline::max(), []() -> bool { throw std::runtime_error("no"); });
    CHECK_THROWS_AS(box.deliver(Message("x"), wait), std::runtime_error);
    CHECK(box.empty());
}

// ---- what the system refuses ----

TEST_CASE("maildir: a message whose octets can't be had is 451 and leaves nothing") {
    Box box;
    const auto reply = box.deliver(damaged(500'000, 200'000));
    CHECK(reply.code == 451);
    CHECK(reply.status == "4.3.0");
    CHECK(box.empty());

    for (std::size_t size : {0, 5}) {
        CHECK(box.deliver(sunk(size)).code == 451);
        CHECK(box.empty());
    }
}

TEST_CASE("maildir: a disk that is really full is 452, and delivers again when it is not") {
    // A file system of 256 KiB that only this thread sees.
    Box box;
    bool allowed = false;
    Reply full, again;
    std::size_t left = 9;
    std::string text;
    Background([&] {
        fs::create_directory(box.path);
        if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
            mount("none", box.path.c_str(), "tmpfs", 0, "size=256k") != 0)
            return;
        allowed = true;
        full = box.deliver(Message(octets(400'000, "x")));
        left = files(box.path + "/tmp").size() + files(box.path + "/new").size();
        again = box.deliver(Message("x"));
        text = box.only();
        umount2(box.path.c_str(), MNT_DETACH);
    }).join();
    if (!allowed) return left_out("mount a file system");
    CHECK(full == Reply{452, "4.3.1", "No room for the message"});
    CHECK(left == 0);
    CHECK(again.positive());
    CHECK(text == front + with_lf(head) + "x");
}

TEST_CASE("maildir: a file that may not grow is 451 and leaves nothing") {
    Box box;
    std::fflush(nullptr);
    const auto pid = fork();
    if (pid == 0) {
        alarm(60);
        signal(SIGXFSZ, SIG_IGN);
        const rlimit limit{100'000, 100'000};
        setrlimit(RLIMIT_FSIZE, &limit);
        const auto to = recipients();
        const auto reply = box.maildir.deliver(sender, to, Message(octets(200'000, "x")), "", ample()).front();
        _exit(reply.code == 451 && reply.status == "4.3.0" && box.empty() ? 0 : 1);
    }
    int status = -1;
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(status == 0);
}

TEST_CASE("maildir: whatever call fails, the sender hears that it is not there, and nothing is") {
    struct Fault {
        int call;
        std::string where;  // in the path of its descriptor
        int error;
        int code;
        std::string status;
    };
    const std::vector<Fault> all{
        {SYS_write, "/box/tmp/", ENOSPC, 452, "4.3.1"}, {SYS_write, "/box/tmp/", EDQUOT, 452, "4.2.2"},
        {SYS_write, "/box/tmp/", EIO, 451, "4.3.0"},    {SYS_fsync, "/box/tmp/", ENOSPC, 452, "4.3.1"},
        {SYS_fsync, "/box/tmp/", EDQUOT, 452, "4.2.2"}, {SYS_fsync, "/box/tmp/", EIO, 451, "4.3.0"},
        {SYS_fsync, "/box/new", EIO, 451, "4.3.0"},     {SYS_fsync, "/box/new", ENOSPC, 452, "4.3.1"},
        {SYS_fsync, "/box", EIO, 451, "4.3.0"},         {SYS_renameat, "", EIO, 451, "4.3.0"},
        {SYS_renameat, "", EDQUOT, 452, "4.2.2"},       {SYS_mkdir, "", ENOSPC, 452, "4.3.1"},
        {SYS_openat, "", EMFILE, 451, "4.3.0"},         {SYS_openat, "", EDQUOT, 452, "4.2.2"},
    };
    for (const auto& fault : all) {
        CAPTURE(fault.call);
        CAPTURE(fault.where);
        CAPTURE(fault.error);
        Box box;
        std::atomic<int> met{0};
        const auto verdict = [&](int call, const std::string& path) {
            const auto at = path.find(fault.where);
            if (call != fault.call || at == path.npos) return 0;
            // The folder itself, not what is in it.
            if (!fault.where.empty() && !fault.where.ends_with('/') && at + fault.where.size() != path.size()) return 0;
            ++met;
            return fault.error;
        };
        Reply reply;
        if (!with_faults({fault.call}, verdict, [&] { reply = box.deliver(Message(octets(100'000, "x"))); }))
            return left_out("make calls fail");
        CHECK(met > 0);
        CHECK(reply.code == fault.code);
        CHECK(reply.status == fault.status);
        CHECK(reply.text.find(box.folder.path) == reply.text.npos);
        CHECK(box.empty());
        CHECK(box.deliver(Message("x")).positive());
    }
}

TEST_CASE("maildir: it is on the disk before anybody hears so, and its folders are too") {
    Box box;
    std::vector<std::string> seen;
    const auto verdict = [&](int call, const std::string& path) {
        seen.push_back(call == SYS_renameat ? "rename" : path.substr(std::min(path.size(), box.folder.path.size())));
        return 0;
    };
    Reply reply;
    const auto deliver = [&] { reply = box.deliver(Message("x")); };
    if (!with_faults({SYS_fsync, SYS_renameat}, verdict, deliver)) return left_out("watch calls");
    CHECK(reply.positive());
    REQUIRE(seen.size() == 5);
    CHECK(seen[0] == "/box");
    CHECK(seen[1].empty());  // the folder the maildir is in
    CHECK(seen[2].starts_with("/box/tmp/"));
    CHECK(seen[3] == "rename");
    CHECK(seen[4] == "/box/new");

    // Another object does not know whether the folders that are there are safe.
    Maildir other(box.path);
    seen.clear();
    const auto to = recipients();
    with_faults({SYS_fsync, SYS_renameat}, verdict, [&] { other.deliver(sender, to, Message("x"), "", ample()); });
    CHECK(seen.size() == 5);
    seen.clear();
    with_faults({SYS_fsync, SYS_renameat}, verdict, [&] { other.deliver(sender, to, Message("x"), "", ample()); });
    REQUIRE(seen.size() == 3);
    CHECK(seen[0].starts_with("/box/tmp/"));
}

TEST_CASE("maildir: descriptors are close-on-exec while it works, and closed when it is done") {
    Box box;
    Watch watch;
    CHECK(box.deliver(Message(octets(100'000, "x")), watch.wait()).positive());
    CHECK(watch.most == 2);
    CHECK(watch.inheritable == 0);
    CHECK(box.deliver(damaged(10, 5)).code == 451);
    CHECK(descriptors() == watch.before);
}
