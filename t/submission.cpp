// submission -- the profile of RFC 6409: what a mail lacks is put in front of it, strangers and borrowed senders are
// not taken.
#include <sys/stat.h>

#include <algorithm>
#include <regex>
#include <sstream>

#include "../Server/Content.hpp"
#include "dialogue.hpp"

using namespace test;
using namespace std::string_literals;

namespace {

Options completing(Options o = brief()) {
    o.complete = true;
    o.offer.binary_mime = true;
    return o;
}
Options in_file(Options o = completing()) {
    o.spool_above = 0;
    return o;
}

// A message by each way out of it.
struct Seen {
    std::string view, read, streamed, written, saved, id;
    std::uint64_t size = 0;
    bool spooled = false, linked = false;
    std::optional<std::string> date, message_id;
};

bool same_file(int fd, const std::string& path) {
    struct stat a {
    }, b{};
    return fstat(fd, &a) == 0 && stat(path.c_str(), &b) == 0 && a.st_ino == b.st_ino && a.st_dev == b.st_dev;
}

Seen look_at(const Message& m) {
    Folder folder;
    Seen seen;
    seen.view = m.view();
    seen.size = m.size();
    seen.id = m.id();
    seen.spooled = m.spooled();
    seen.date = m.header("Date");
    seen.message_id = m.header("message-id");
    char some[999];
    while (const auto n = m.read(seen.read.size(), some, sizeof some)) seen.read.append(some, n);
    seen.streamed = all_of(*m.stream());
    {
        const Descriptor out(open((folder / "written").c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
        m.write_to(out.get());
    }
    seen.written = content_of(folder / "written");
    m.save(folder / "saved");
    seen.saved = content_of(folder / "saved");
    seen.linked = m.spooled() && same_file(m.content()->file.get(), folder / "saved");
    return seen;
}

struct Way {
    const char* name;
    void (*send)(Talk&, const std::string& text);
};

const Way by_data{"DATA", [](Talk& talk, const std::string& text) {
                      talk.play("C: DATA\nS: 354");
                      talk.wire.send(text + ".\r\n");  // no line of a test begins with a dot
                  }};
const Way by_chunk{"BDAT", [](Talk& talk, const std::string& text) {
                       talk.wire.send("BDAT " + std::to_string(text.size()) + " LAST\r\n" + text);
                   }};
const Way by_octets{"BDAT, octet by octet", [](Talk& talk, const std::string& text) {
                        talk.wire.send("BDAT " + std::to_string(text.size()) + " LAST\r\n");
                        talk.wire.send(text, Test::Pace::octets);
                    }};

struct Sent {
    std::string reply;
    std::vector<Seen> seen;
};

Sent send(const std::string& text, Options options, const Way& way = by_chunk, const char* parameters = "") {
    Sent sent;
    std::mutex mutex;
    Setup setup;
    setup.options = std::move(options);
    setup.handler = [&](Server::Client& c) {
        std::lock_guard lock(mutex);
        sent.seen.push_back(look_at(c.MSG));
    };
    Talk talk(setup);
    talk.play("S: 220\nC: EHLO me\nS: 250\nC: MAIL FROM:<a@b.test>"s + parameters +
              "\nS: 250\nC: RCPT TO:<c@d.test>\nS: 250");
    way.send(talk, text);
    sent.reply = talk.wire.reply();
    talk.end();
    return sent;
}

// What was put in front: "D" a Date, "M" a Message-ID with the message's own id, "-" an empty line; "?" anything else.
std::string added(const Seen& seen, const std::string& text, const std::string& hostname = "mx.test") {
    if (!seen.view.ends_with(text)) return "?";
    std::istringstream front(seen.view.substr(0, seen.view.size() - text.size()));
    static const std::regex date(
        "Date: (Mon|Tue|Wed|Thu|Fri|Sat|Sun), [1-9][0-9]? (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) "
        "2[0-9]{3} [0-2][0-9]:[0-5][0-9]:[0-6][0-9] \\+0000\r");
    std::string out;
    for (std::string line; std::getline(front, line);)
        out += std::regex_match(line, date)                                 ? 'D'
               : line == "Message-ID: <" + seen.id + '@' + hostname + ">\r" ? 'M'
               : line == "\r"                                               ? '-'
                                                                            : '?';
    return out;
}

std::string added(const std::string& text, const Options& options = completing(), const Way& way = by_chunk) {
    const auto sent = send(text, options, way);
    return sent.seen.size() == 1 ? added(sent.seen[0], text) : sent.reply;
}

// `size` octets of header: short lines, the last one made to fit.
std::string header_of(std::size_t size) {
    std::string out;
    while (out.size() + 40 < size) out += "X-Filler: some more of the same\r\n";
    return out + "Y: " + std::string(size - out.size() - 5, 'y') + "\r\n";
}

}  // namespace

// ---- what is missing ----

TEST_CASE("submission: Date and Message-ID stand in front by every way out of a message, in memory and in a file") {
    for (const auto* way : {&by_data, &by_chunk, &by_octets}) {
        for (const bool file : {false, true}) {
            CAPTURE(way->name);
            CAPTURE(file);
            const auto text = "Subject: x\r\n\r\nhello\r\n"s;
            const auto sent = send(text, file ? in_file() : completing(), *way);
            REQUIRE(sent.seen.size() == 1);
            const auto& seen = sent.seen[0];
            CHECK(added(seen, text) == "DM");
            CHECK(seen.spooled == file);
            CHECK(seen.linked == file);  // the file itself gets the name, nothing is copied
            CHECK(seen.size == seen.view.size());
            for (const auto* other : {&seen.read, &seen.streamed, &seen.written, &seen.saved})
                CHECK(*other == seen.view);
            CHECK(seen.message_id == "<" + seen.id + "@mx.test>");
            CHECK(seen.date);
        }
    }
}

TEST_CASE("submission: a large mail, partly received when its file begins, keeps every octet behind the fields") {
    std::string text = "Subject: x\r\n\r\n";
    for (int i = 0; text.size() < 3'000'000; ++i) text += std::to_string(i) + " bottles of mail\r\n";
    for (const std::uint64_t spool_above : {0u, 100'000u, 2'000'000u, 2'999'000u, 16'000'000u}) {
        for (const auto* way : {&by_data, &by_chunk}) {
            CAPTURE(spool_above);
            auto o = completing();
            o.spool_above = spool_above;
            const auto sent = send(text, o, *way);
            REQUIRE(sent.seen.size() == 1);
            const auto& seen = sent.seen[0];
            CHECK(added(seen, text) == "DM");
            CHECK(seen.spooled == (spool_above < text.size()));
            CHECK(seen.size == seen.view.size());
            CHECK(seen.saved == seen.view);
            CHECK(seen.written == seen.view);
        }
    }
}

TEST_CASE("submission: what a mail has, however it is written, is not added") {
    struct Row {
        const char *text, *added;
    };
    const Row rows[] = {
        {"Date: x\r\nMessage-ID: <a@b>\r\n\r\nbody\r\n", ""},
        {"Subject: x\r\nMessage-ID: <a@b>\r\n\r\nbody\r\n", "D"},
        {"Subject: x\r\nDate: x\r\n\r\nbody\r\n", "M"},
        {"dAtE : x\r\nmessage-id:\r\n <a@b>\r\n\r\nbody\r\n", ""},
        {"DATE:\r\nMESSAGE-ID:\r\n\r\n", ""},
        {"Subject: x\r\n Date: folded\r\n\tMessage-ID: folded\r\n\r\n", "DM"},
        {"Resent-Date: x\r\nX-Date: x\r\nDates: x\r\nMessage-IDs: x\r\n\r\nDate: body\r\nMessage-ID: body\r\n", "DM"},
        {"Subject: gr\303\274\303\237e\r\nDate: x\r\n\r\n\303\274\r\n", "M"},
        {"\303\274: x\r\nDate: x\r\n\r\n\r\n", "M"},
        {">From me\r\nDate: x\r\n\r\n", "M"},
    };
    for (const auto& row : rows) {
        CAPTURE(row.text);
        CHECK(added(row.text) == row.added);
        CHECK(added(row.text, in_file()) == row.added);
    }
}

TEST_CASE("submission: a text without a header section is still all body behind the fields") {
    struct Row {
        const char *text, *added;
    };
    const Row rows[] = {
        {"\r\nDate: in the body\r\n", "DM"},
        {"", "DM"},
        {"Hello Bob,\r\nhow are you?\r\n", "DM-"},
        {"Hello Bob,\r\n\r\nDate: Friday?\r\n", "DM-"},
        {"look at http://example.test\r\n", "DM-"},
        {"no line end", "DM-"},
        {" \r\n", "DM-"},
    };
    for (const auto& row : rows) {
        CAPTURE(row.text);
        CHECK(added(row.text) == row.added);
        CHECK(added(row.text, in_file()) == row.added);
    }
}

TEST_CASE("submission: a header section that does not end is one") {
    CHECK(added("Date: x") == "M");
    CHECK(added("Date: x\r\n") == "M");
    CHECK(added("Subject: x\r\nMessage-ID: <a@b>", in_file()) == "D");
}

TEST_CASE("submission: a field is found wherever the octets of a header section are cut") {
    const auto text = "Subject: a\r\n b\r\nDate: x\r\nMessage-ID: <a@b>\r\n\r\nbody\r\n"s;
    CHECK(added(text, completing(), by_octets) == "");
    CHECK(added(text, in_file(), by_octets) == "");
}

TEST_CASE("submission: a header section is looked at for a MiB, in memory or before its file begins") {
    constexpr std::size_t most = 1 << 20;
    const auto fields = "Date: x\r\nMessage-ID: <a@b>\r\n"s;
    const auto within = header_of(most - fields.size()) + fields, beyond = header_of(most) + fields;
    for (const auto& o : {completing(), in_file()}) {
        for (const auto* way : {&by_data, &by_chunk}) {
            CHECK(added(within + "\r\nbody\r\n", o, *way) == "");
            CHECK(added(beyond + "\r\nbody\r\n", o, *way) == "DM");
        }
    }
    for (const std::size_t size : {16'000, 16'384, 20'000, 60'000, 70'000, 250'000, 270'000}) {
        CAPTURE(size);
        CHECK(added(header_of(size) + fields + "\r\nbody\r\n", in_file()) == "");
        CHECK(added(header_of(size) + "\r\nbody\r\n", in_file()) == "DM");
    }
}

TEST_CASE("submission: without memory for a header section a mail is deferred; for one that fits it may be large") {
    auto o = completing();
    o.memory = 64 << 10;  // a block of 16 KiB may become one of 64
    CHECK(added(header_of(50'000) + "\r\nbody\r\n", o) == "DM");
    CHECK(added(header_of(70'000) + "\r\nbody\r\n", o) == "452 4.3.1 Insufficient system storage");
    CHECK(added(header_of(1000) + "\r\n" + std::string(300'000, 'x'), o) == "DM");
    o.memory = 16 << 10;
    CHECK(added(header_of(10'000) + "\r\nbody\r\n", o) == "DM");
    CHECK(added(header_of(20'000) + "\r\nbody\r\n", o) == "452 4.3.1 Insufficient system storage");
    CHECK(added(header_of(20'000) + "\r\nbody\r\n", o, by_data) == "452 4.3.1 Insufficient system storage");
    CHECK(added(header_of(1000) + "\r\n" + std::string(300'000, 'x'), o) == "DM");
}

TEST_CASE("submission: a mail larger than all the memory is in a file, whether or not it is completed") {
    const auto text = "Subject: x\r\n\r\n" + std::string(2'000'000, 'x');
    for (const std::uint64_t memory : {16u, 17u, 64u, 65u, 256u, 300u, 1100u}) {
        CAPTURE(memory);
        for (auto o : {brief(), completing()}) {
            o.memory = memory << 10;
            const auto sent = send(text, o);
            REQUIRE(sent.seen.size() == 1);
            CHECK(added(sent.seen[0], text) == (o.complete ? "DM" : ""));
            CHECK(sent.seen[0].spooled);
        }
    }
}

TEST_CASE("submission: the size limits count what was sent, not what was added") {
    const auto text = "Subject: x\r\n\r\n" + std::string(984, 'x') + "\r\n";
    REQUIRE(text.size() == 1000);
    auto o = completing();
    o.max_message_size = o.spool_above = 1000;
    for (const auto* way : {&by_data, &by_chunk}) {
        auto sent = send(text, o, *way);
        REQUIRE(sent.seen.size() == 1);
        CHECK(added(sent.seen[0], text) == "DM");
        CHECK_FALSE(sent.seen[0].spooled);
        o.spool_above = 999;
        sent = send(text, o, *way);
        REQUIRE(sent.seen.size() == 1);
        CHECK(sent.seen[0].spooled);
        o.spool_above = 1000;
        CHECK(send("X" + text, o, *way).reply.starts_with("552 5.3.4"));
    }
}

TEST_CASE("submission: each mail of a session has a Message-ID of its own, and nothing of the one before") {
    Setup setup;
    setup.options = completing();
    setup.options.spool_above = 1000;
    std::vector<Seen> seen;
    setup.handler = [&](Server::Client& c) { seen.push_back(look_at(c.MSG)); };
    const auto nothing_missing = "Date: x\r\nMessage-ID: <a@b>\r\n\r\n"s, all_missing = "\r\n"s;
    std::vector<std::string> texts;
    for (const std::size_t size : {10, 2000, 10, 100'000, 10})
        for (const auto& head : {nothing_missing, all_missing}) texts.push_back(head + std::string(size, 'x') + "\r\n");
    Talk talk(setup);
    talk.play("S: 220\nC: EHLO me\nS: 250");
    for (const auto& text : texts) {
        talk.play("C: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<c@d>\nS: 250");
        by_data.send(talk, text);
        CHECK(talk.wire.expect("250") == "250 2.0.0 Saved");
    }
    talk.end();
    REQUIRE(seen.size() == texts.size());
    std::vector<std::string> ids;
    for (std::size_t i = 0; i < texts.size(); ++i) {
        CHECK(added(seen[i], texts[i]) == (i % 2 ? "DM" : ""));
        CHECK(seen[i].saved == seen[i].view);
        if (i % 2) ids.push_back(*seen[i].message_id);
    }
    std::ranges::sort(ids);
    CHECK(std::ranges::adjacent_find(ids) == ids.end());
}

TEST_CASE("submission: a message kept by the program stays as it is while the next one comes") {
    Setup setup;
    setup.options = completing();
    std::vector<Message> kept;
    setup.handler = [&](Server::Client& c) {
        kept.push_back(c.MSG);
        c.accept();
    };
    Talk talk(setup);
    talk.play("S: 220\nC: EHLO me\nS: 250");
    for (const auto* text : {"\r\none\r\n", "Date: x\r\nMessage-ID: <a@b>\r\n\r\ntwo\r\n", "\r\nthree\r\n"}) {
        talk.play("C: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<c@d>\nS: 250");
        by_data.send(talk, text);
        talk.wire.expect("250");
    }
    talk.end();
    REQUIRE(kept.size() == 3);
    CHECK(kept[0].view().ends_with(">\r\n\r\none\r\n"));
    CHECK(kept[0].header("Date"));
    CHECK(kept[1].view() == "Date: x\r\nMessage-ID: <a@b>\r\n\r\ntwo\r\n");
    CHECK(kept[2].view().ends_with(">\r\n\r\nthree\r\n"));
    CHECK(kept[0].header("Message-ID") != kept[2].header("Message-ID"));
}

TEST_CASE("submission: a text sent in several chunks is looked at as a whole") {
    for (const auto& o : {completing(), in_file()}) {
        Setup setup;
        setup.options = o;
        Talk talk(setup);
        talk.play(opening);
        talk.play(
            "C: BDAT 3\nc: Dat\nS: 250\nC: BDAT 0\nS: 250\nC: BDAT 7\nc: e: x\\r\\n\\r\nS: 250\n"
            "C: BDAT 6 LAST\nc: \\nyou\\r\\n\nS: 250");
        const auto mails = talk.end();
        REQUIRE(mails.size() == 1);
        CHECK(mails[0].text == "Message-ID: <" + mails[0].id + "@mx.test>\r\nDate: x\r\n\r\nyou\r\n");
    }
}

TEST_CASE("submission: a header section is found as it is kept, whatever becomes of bare line ends") {
    const auto text = "Subject: x\nDate: x\n\nMessage-ID: body\n"s;
    for (auto o : {completing(), in_file()}) {
        CHECK(send(text, o).reply.starts_with("554 5.6.0"));
        o.bare_line_ends = BareLineEnds::accept;
        CHECK(added(text, o) == "M");
        o.bare_line_ends = BareLineEnds::normalize;
        const auto sent = send(text, o, by_octets);
        REQUIRE(sent.seen.size() == 1);
        CHECK(added(sent.seen[0], "Subject: x\r\nDate: x\r\n\r\nMessage-ID: body\r\n") == "M");
    }
}

TEST_CASE("submission: a BINARYMIME mail is completed too, its octets untouched") {
    const auto text = "Subject: x\r\n\r\n"s + std::string("\0\r.\n\n\xff", 6);
    for (const auto& o : {completing(), in_file()}) {
        const auto sent = send(text, o, by_chunk, " BODY=BINARYMIME");
        REQUIRE(sent.seen.size() == 1);
        CHECK(added(sent.seen[0], text) == "DM");
    }
}

TEST_CASE("submission: a sink gets the octets as they came") {
    for (const auto* way : {&by_data, &by_chunk}) {
        std::string sunk;
        Setup setup;
        setup.options = completing();
        setup.listeners = [&](Server& s) {
            s.on<Event::Data>([&](Event::Data& e) { e.client.into([&](std::string_view some) { sunk += some; }); });
        };
        Talk talk(setup);
        talk.play(opening);
        way->send(talk, "Subject: x\r\n\r\nhello\r\n");
        talk.wire.expect("250");
        const auto mails = talk.end();
        REQUIRE(mails.size() == 1);
        CHECK(mails[0].sunk);
        CHECK(sunk == "Subject: x\r\n\r\nhello\r\n");
    }
}

TEST_CASE("submission: nothing is added where nobody asked for it") {
    CHECK(added("Subject: x\r\n\r\n", brief()) == "");
    CHECK(added("hello\r\n", in_file(brief()), by_data) == "");
}

TEST_CASE("submission: a Message-ID is one word whatever the host is called, and as long as a host name can be") {
    struct Row {
        std::string hostname, right;
    };
    const Row rows[] = {{"[192.0.2.1]", "[192.0.2.1]"},
                        {"gr\303\274n.test", "gr--n.test"},
                        {"a>b<c@d\"", "a-b-c-d-"},
                        {"my_host", "my_host"},
                        {std::string(255, 'h'), std::string(255, 'h')}};
    for (const auto& row : rows) {
        auto o = completing();
        o.hostname = row.hostname;
        const auto sent = send("", o);
        REQUIRE(sent.seen.size() == 1);
        CHECK(added(sent.seen[0], "", row.right) == "DM");
    }
}

TEST_CASE("submission: a relay hands on what the mail has become, a maildir and a command get it as well") {
    for (const bool file : {false, true}) {
        Folder folder;
        Test::MailServer next;
        Setup setup;
        setup.options = file ? in_file() : completing();
        setup.handler = [&](Server::Client& c) {
            Relay(c.FROM, c.TO, c.MSG, {.host = next.address(), .hostname = "me.test"});
            Maildir(folder / "box", {.line_ends = LineEnds::crlf}).deliver(c.FROM, c.TO, c.MSG, "", Clock::now() + 30s);
            Pipe({"/bin/sh", "-c", "cat > " + folder / "piped"}, {.line_ends = LineEnds::crlf})
                .deliver(c.FROM, c.TO, c.MSG, "", Clock::now() + 30s);
        };
        const auto played = dialogue(opening + "C: DATA\nS: 354\nC: Subject: x\nC:\nC: hello\nC: .\nS: 250\n"s, setup);
        REQUIRE(played.mails.size() == 1);
        const auto& text = played.mails[0].text;
        CHECK(text.starts_with("Date: "));
        const auto mails = next.wait_for(1);
        CHECK(mails[0].text.starts_with("Received: "));
        CHECK(mails[0].text.ends_with('\n' + text));
        const auto boxed = std::filesystem::directory_iterator(folder / "box/new")->path().string();
        CHECK(content_of(boxed).ends_with('\n' + text));
        CHECK(content_of(folder / "piped").ends_with('\n' + text));
    }
}

// ---- the profile ----

namespace {

// Believes whatever name comes first.
class Anybody : public Authenticator {
    class Exchange : public AuthExchange {
        Step step(std::optional<std::string_view> response) override {
            if (!response) return {.is = Step::Is::challenge};
            return {.is = Step::Is::success, .user = std::string(*response)};
        }
    };
    std::vector<std::string> mechanisms(const Channel&) const override { return {"ANYBODY"}; }
    std::unique_ptr<AuthExchange> begin(std::string_view mechanism, const Channel&) override {
        return mechanism == "ANYBODY" ? std::make_unique<Exchange>() : nullptr;
    }
};

class NoTLS : public TLSAcceptor {
    std::unique_ptr<TLSLayer> accept(int) override { throw std::runtime_error("not here"); }
};

// The profile, but in the clear.
Options submission() {
    auto o = Options::submission(nullptr, std::make_shared<Anybody>());
    o.clear_auth = ClearAuth::everywhere;
    o.hostname = "mx.test";
    return o;
}

const std::string authenticated = "S: 220\nC: EHLO me\nS: 250\nC: AUTH ANYBODY am9l\nS: 235\n";  // "joe"

}  // namespace

TEST_CASE("submission: the profile asks for TLS where there is any, and for AUTH") {
    const auto o = Options::submission(std::make_shared<NoTLS>(), std::make_shared<Anybody>());
    CHECK(o.require_tls);
    CHECK(o.require_auth);
    CHECK(o.complete);
    CHECK(o.qualified);
    CHECK(o.command_timeout == 120s);
    CHECK(o.clear_auth == ClearAuth::never);
    CHECK_NOTHROW(o.check());
    CHECK_FALSE(Options::submission(nullptr, std::make_shared<Anybody>()).require_tls);
    CHECK_THROWS_AS(Options::submission(std::make_shared<NoTLS>(), nullptr).check(), std::invalid_argument);
    // Nobody could ever authenticate.
    auto clear = Options::submission(nullptr, std::make_shared<Anybody>());
    CHECK_THROWS_AS(clear.check(), std::invalid_argument);
    clear.clear_auth = ClearAuth::loopback;
    CHECK_NOTHROW(clear.check());
}

TEST_CASE("submission: a stranger is told to encrypt, then to authenticate") {
    auto o = Options::submission(std::make_shared<NoTLS>(), std::make_shared<Anybody>());
    o.hostname = "mx.test";
    dialogue(
        "S: 220\nC: EHLO me\nS: 250\nC: MAIL FROM:<a@b.test>\nS: 530 5.7.0 Must issue a STARTTLS\n"
        "C: AUTH ANYBODY am9l\nS: 530 5.7.0",
        {.options = o});
    const auto played = dialogue(
        "S: 220\nC: EHLO me\nS: 250\nC: MAIL FROM:<a@b.test>\nS: 530 5.7.0 Authentication required\n"
        "C: BDAT 3 LAST\nc: abc\nS: 503\nC: AUTH ANYBODY am9l\nS: 235\nC: MAIL FROM:<a@b.test>\nS: 250",
        {.options = submission()});
    CHECK(played.mails.empty());
}

TEST_CASE("submission: who has authenticated submits, and the mail has what it lacked") {
    std::string user;
    const auto played = dialogue(authenticated + R"(
        C: MAIL FROM:<joe@b.test>
        S: 250
        C: RCPT TO:<c@d.test>
        S: 250
        C: DATA
        S: 354
        C: Subject: x
        C:
        C: hello
        C: .
        S: 250
    )",
                                 {.options = submission(), .handler = [&](Server::Client& c) {
                                      user = c.MSG.trace().user;
                                      c.accept();
                                  }});
    REQUIRE(played.mails.size() == 1);
    CHECK(user == "joe");
    CHECK(played.mails[0].protocol == "ESMTPA");
    CHECK(played.mails[0].text.starts_with("Date: "));
    CHECK(played.mails[0].text.ends_with("\r\nSubject: x\r\n\r\nhello\r\n"));
}

TEST_CASE("submission: domains that are not fully qualified are refused, where that was asked for") {
    const auto played = dialogue(authenticated + R"(
        C: MAIL FROM:<joe@localhost>
        S: 554 5.1.8
        C: RCPT TO:<c@d.test>
        S: 503
        C: MAIL FROM:<>
        S: 250
        C: RCPT TO:<c@squeaky>
        S: 554 5.1.2
        C: DATA
        S: 503
        C: RCPT TO:<c@[192.0.2.1]>
        S: 250
        C: RCPT TO:<c@[IPv6:2001:db8::1]>
        S: 250
        C: RCPT TO:<postmaster>
        S: 250
        C: RCPT TO:<c@d.test>
        S: 250
        C: RSET
        S: 250
        C: MAIL FROM:<joe@[192.0.2.1]>
        S: 250
    )",
                                 {.options = submission()});
    CHECK(played.mails.empty());
    dialogue("S: 220\nC: EHLO me\nS: 250\nC: MAIL FROM:<joe@localhost>\nS: 250\nC: RCPT TO:<c@squeaky>\nS: 250");
}

// ---- whose sender ----

TEST_CASE("submission: a user owns the address that is his name, or has his name at the domain") {
    struct Row {
        const char *user, *sender, *domain;
        bool owned;
    };
    const Row rows[] = {
        {"joe@b.test", "joe@b.test", "", true},
        {"joe@b.test", "joe@B.TEST", "", true},
        {"joe@b.test", "Joe@b.test", "", false},
        {"joe@b.test", "joe@c.test", "", false},
        {"joe@b.test", "joe@b.test", "c.test", true},
        {"joe@b.test", "joe@c.test", "c.test", false},
        {"joe", "joe@b.test", "", true},
        {"joe", "joe@c.test", "", true},
        {"joe", "joe@b.test", "b.test", true},
        {"joe", "joe@B.test", "b.test", true},
        {"joe", "joe@c.test", "b.test", false},
        {"joe", "jo@b.test", "b.test", false},
        {"joe", "joe.x@b.test", "b.test", false},
        {"joe", "\"joe\"@b.test", "b.test", true},
        {"a b", "\"a b\"@b.test", "b.test", true},
        {"joe", "", "b.test", true},
        {"", "", "", true},
        {"", "joe@b.test", "", false},
        {"", "\"\"@b.test", "", false},
        {"@b.test", "joe@b.test", "", false},
        {"joe@", "joe@b.test", "", false},
    };
    for (const auto& row : rows) {
        CAPTURE(row.user);
        CAPTURE(row.sender);
        CAPTURE(row.domain);
        CHECK(owns(row.user, *Address::parse(row.sender), row.domain) == row.owned);
    }
}

TEST_CASE("submission: OwnSender refuses a sender that is somebody else's, and lets the session go on") {
    const auto played =
        dialogue(authenticated + R"(
        C: MAIL FROM:<jane@b.test>
        S: 550 5.7.1 <jane@b.test> is not owned by user joe
        C: MAIL FROM:<joe@c.test>
        S: 550 5.7.1
        C: MAIL FROM:<joe@b.test>
        S: 250
        C: RSET
        S: 250
        C: MAIL FROM:<>
        S: 250
    )",
                 {.options = submission(), .listeners = [](Server& s) { s.on<Event::Mail>(OwnSender{"b.test"}); }});
    CHECK(played.troubles.empty());
}

TEST_CASE("submission: a listener of one's own may know better whose address it is") {
    dialogue(authenticated + "C: MAIL FROM:<sales@b.test>\nS: 250\nC: RSET\nS: 250\nC: MAIL FROM:<jane@b.test>\nS: 550",
             {.options = submission(), .listeners = [](Server& s) {
                  s.on<Event::Mail>([](Event::Mail& e) {
                      const bool alias = e.client.user() == "joe" && e.sender.str() == "sales@b.test";
                      if (!alias) OwnSender{"b.test"}(e);
                  });
              }});
}
