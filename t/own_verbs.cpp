// own_verbs -- programs that answer commands themselves: all of them, texts included, further verbs, keywords and
// parameters, and replies that other threads want said.
#include <sys/mman.h>

#include "../Server/Content.hpp"

#include "dialogue.hpp"
#include "over_tls.hpp"

using namespace test;

namespace {

Setup answering(std::function<void(Event::Command&)> hook, Options options = brief()) {
    Setup s;
    s.options = std::move(options);
    s.listeners = [hook](Server& server) { server.on<Event::Command>([hook](Event::Command& e) { hook(e); }); };
    return s;
}

// A server of its own kind: it knows HELLO, TEXT and FILE.
Setup strange(std::function<void(Event::Text&)> text, int fd = -1, bool sync = false) {
    Options o = brief();
    o.simple = false;
    auto s = answering(
        [fd, sync](Event::Command& e) {
            if (e.line == "HELLO") e.reply = {250, "", "Hello yourself"};
            if (e.line == "TEXT") e.reply = {354, "", "Go on"}, e.client.data_mode();
            if (e.line == "FILE") e.reply = {354, "", "Go on"}, e.client.data_mode(fd, sync);
            if (e.line == "NEVER") e.reply = {550, "", "No"}, e.client.data_mode();
            if (e.line == "TRAP") e.reply = {354, "", "Go on"};
        },
        o);
    s.listeners = [listen = s.listeners, text](Server& server) {
        listen(server);
        server.on<Event::Text>([text](Event::Text& e) { text(e); });
    };
    return s;
}

const std::string in_step = "C: HELLO\nS: 250\nC: QUIT\nS: 221\nS: EOF";

struct MemoryFile {
    int fd = memfd_create("text", MFD_CLOEXEC);
    ~MemoryFile() { ::close(fd); }
    std::string text() const {
        std::string out(10'000, '\0');
        out.resize(std::size_t(std::max<ssize_t>(pread(fd, out.data(), out.size(), 0), 0)));
        return out;
    }
};

}  // namespace

TEST_CASE("with simple off the program answers every verb, and what it does not answer is 502, but QUIT") {
    const auto played = dialogue(
        "S: 220\nC: EHLO me\nS: 502 5.5.1\nC: HELLO\nS: 250 Hello yourself\nC: MAIL FROM:<a@b>\nS: 502\n"
        "C: DATA\nS: 502\nC: xyzzy\nS: 502\nC: QUIT\nS: 221\nS: EOF",
        strange([](Event::Text&) {}));
    CHECK(played.mails.empty());
    Options o = brief();
    o.simple = false;
    dialogue("S: 220\nC: QUIT\nS: 221 2.0.0 So long\nS: EOF", answering(
                                                                  [](Event::Command& e) {
                                                                      if (e.line == "QUIT")
                                                                          e.reply = {221, "2.0.0", "So long"};
                                                                  },
                                                                  o));
}

TEST_CASE("with handle_connects off nothing is said first, but what a listener says") {
    Options o = brief();
    o.handle_connects = false;
    Setup silent;
    silent.options = o;
    dialogue("C: NOOP\nS: 250\nC: QUIT\nS: 221\nS: EOF", silent);
    Setup own;
    own.options = o;
    own.listeners = [](Server& s) { s.on<Event::Connect>([](Event::Connect& e) { e.reply = {220, "", "Mine"}; }); };
    dialogue("S: 220 Mine\nC: QUIT\nS: 221\nS: EOF", own);
    own.listeners = [](Server& s) { s.on<Event::Connect>([](Event::Connect& e) { e.reply = {554, "", "No"}; }); };
    dialogue("S: 554 No\nS: EOF", own);
}

TEST_CASE("a text comes to the event whole, its dots undone, and commands go on behind it") {
    auto texts = std::make_shared<Names>();
    const auto played = dialogue(
        "S: 220\nC: TEXT\nS: 354\nC: one\nC: ..two\nC: .\nS: 250 2.0.0 OK\nC: TEXT\nS: 354\nC: .\nS: 552 5.0.0 "
        "Empty\n" +
            in_step,
        strange([texts](Event::Text& e) {
            texts->push_back(std::string(e.client.MSG.view()));
            if (e.client.MSG.size() == 0) e.reply = {552, "5.0.0", "Empty"};
        }));
    CHECK(*texts == Names{"one\r\n.two\r\n", ""});
    CHECK(played.mails.empty());
}

TEST_CASE("the event comes also when the line with the dot comes late, and once for texts sent at once") {
    auto count = std::make_shared<int>(0);
    auto setup = strange([count](Event::Text&) { ++*count; });
    setup.pace = Pace::octets;
    dialogue("S: 220\nC: TEXT\nS: 354\nC: x\nC: .\nS: 250\n" + in_step, setup);
    CHECK(*count == 1);
    setup.pace = Pace::at_once;
    dialogue(
        "S: 220\nC: TEXT\nC: x\nC: .\nC: TEXT\nC: y\nC: .\nC: HELLO\nC: QUIT\nS: 354\nS: 250\nS: 354\nS: 250\nS: "
        "250\nS: 221\nS: EOF",
        setup);
    CHECK(*count == 3);
}

TEST_CASE("a text goes to a descriptor, on disk first if that is wanted") {
    for (const bool sync : {false, true}) {
        MemoryFile file;
        auto size = std::make_shared<std::size_t>(1);
        dialogue("S: 220\nC: FILE\nS: 354\nC: Subject: x\nC:\nC: ..\nC: .\nS: 250\n" + in_step,
                 strange([size](Event::Text& e) { *size = e.client.MSG.size(); }, file.fd, sync));
        CHECK(file.text() == "Subject: x\r\n\r\n.\r\n");
        CHECK(*size == 17);
    }
}

TEST_CASE("a descriptor that takes nothing, or can't be made durable, is 452 4.3.1, and the event comes all the same") {
    Descriptor full(open("/dev/full", O_WRONLY | O_CLOEXEC));
    REQUIRE(full.get() >= 0);
    int ends[2];
    REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
    Descriptor out(ends[1]), in(ends[0]);  // a pipe has no fsync
    for (const auto& [fd, sync] : {std::pair{full.get(), false}, {out.get(), true}}) {
        auto heard = std::make_shared<Reply>();
        dialogue("S: 220\nC: FILE\nS: 354\nC: x\nC: .\nS: 452 4.3.1\n" + in_step,
                 strange([heard](Event::Text& e) { *heard = e.reply; }, fd, sync));
        CHECK(heard->code == 452);
    }
}

TEST_CASE("a text that is too large is read away, and the event says so") {
    auto s = strange([](Event::Text& e) { CHECK(e.reply.code == 552); });
    s.options.max_message_size = 1000;
    dialogue("S: 220\nC: TEXT\nS: 354\nC: " + std::string(990, 'x') + "\nC: " + std::string(990, 'x') +
                 "\nC: .\nS: 552 5.3.4\n" + in_step,
             s);
}

TEST_CASE("no text comes behind a refusal, and 354 without data_mode() is not said") {
    const auto played = dialogue("S: 220\nC: NEVER\nS: 550\nC: HELLO\nS: 250\nC: TRAP\nS: 451 4.3.0\n" + in_step,
                                 strange([](Event::Text&) { FAIL("there is no text"); }));
    CHECK(played.troubles == Names{"354, but no data_mode()"});
}

TEST_CASE("verbs, keywords and parameters of the program's own are announced, and kept where they are said") {
    Options o = brief();
    o.own = {{"XCOLOUR"}, {"XCOLOUR RED GREEN", "XSHADE"}, {"XCOLOUR"}, {"XSHADE"}};
    auto from = std::make_shared<Sender>();
    auto to = std::make_shared<std::vector<Recipient>>();
    auto s = answering(
        [](Event::Command& e) {
            if (e.line.starts_with("XCOLOUR ")) e.reply = {250, "2.0.0", "Painted " + e.line.substr(8)};
        },
        o);
    s.handler = [=](Server::Client& c) {
        *from = c.FROM;
        *to = c.TO;
        c.accept();
    };
    const auto played = dialogue(
        "S: 220\nC: EHLO me\nS: 250\nC: HELP\nS: 214\nC: XCOLOUR red\nS: 250 2.0.0 Painted red\n"
        "C: MAIL FROM:<a@b> xcolour=red\nS: 250\nC: RCPT TO:<c@d> XCOLOUR=red\nS: 555 5.5.4 Unknown parameter XCOLOUR\n"
        "C: RCPT TO:<c@d> XSHADE\nS: 250\nC: DATA\nS: 354\nC: x\nC: .\nS: 250\nC: MAIL FROM:<a@b> XOTHER\nS: 555\nC: "
        "QUIT\nS: 221",
        s);
    CHECK(played.heard.find("250-XCOLOUR RED GREEN\r\n250-XSHADE\r\n") != played.heard.npos);
    CHECK(played.heard.find(" QUIT XCOLOUR\r\n") != played.heard.npos);
    REQUIRE(from->parameters.size() == 1);
    CHECK(from->parameters[0].keyword == "XCOLOUR");
    CHECK(from->parameters[0].value == "red");
    REQUIRE(to->size() == 1);
    CHECK(to->at(0).parameters.at(0).keyword == "XSHADE");
    for (const Additions& wrong : {Additions{{"lower"}}, Additions{{""}}, Additions{{}, {"X\r\nY"}},
                                   Additions{{}, {""}}, Additions{{}, {}, {"A B"}}, Additions{{}, {}, {}, {"X="}}}) {
        o.own = wrong;
        CHECK_THROWS_AS(o.check(), std::invalid_argument);
    }
}

// ---- replies by other threads ----

namespace {

Options reachable() {
    Options o = brief();
    o.reachable = true;
    return o;
}

// Sessions by their ids, as they come.
struct Ids {
    void listen(Server& s) {
        s.on<Event::Connect>([this](Event::Connect& e) {
            const std::lock_guard lock(mutex);
            ids.push_back(e.client.id());
        });
    }
    std::string last() {
        const std::lock_guard lock(mutex);
        return ids.empty() ? "" : ids.back();
    }
    std::mutex mutex;
    Names ids;
};

struct Reached {
    explicit Reached(Options o = reachable()) : server(std::vector<std::string>{"127.0.0.1:0"}, std::move(o)) {
        ids.listen(server);
        thread = Background([this] { server.run([](Server::Client& c) { c.accept(); }); });
    }
    ~Reached() { server.stop(); }
    Server server;
    Ids ids;
    Background thread;
};

}  // namespace

TEST_CASE("another thread's reply is said at once to who is idle, in a session in the clear and over TLS") {
    for (const bool tls : {false, true}) {
        Reached r(tls ? with_tls(reachable()) : reachable());
        auto wire = dial(r.server);
        wire.expect("220");
        if (tls) {
            CHECK(wire.ask("STARTTLS") == 220);
            encrypt(wire);
        }
        CHECK(wire.ask("EHLO me") == 250);
        const auto id = r.ids.last();
        CHECK(r.server.send_to_client(id, {250, "2.0.0", "Breaking news"}));
        wire.expect("250 2.0.0 Breaking news");
        CHECK(wire.ask("NOOP") == 250);
        CHECK(r.server.send_to_client(id, {250, "", "two\nlines\r"}));
        CHECK(wire.expect("250").find("two\n250 lines") != std::string::npos);
        CHECK(r.server.send_to_client(id, {421, "4.3.2", "Enough"}));
        wire.expect("421 4.3.2 Enough");
        wire.expect_end();
    }
}

TEST_CASE("what can't be said is refused: no session, no text, no reply's code, not reachable") {
    Reached r;
    CHECK(!r.server.send_to_client("nobody", {250, "", "x"}));
    auto wire = dial(r.server);
    wire.expect("220");
    const auto id = r.ids.last();
    CHECK(!r.server.send_to_client(id, {250, "", ""}));
    CHECK(!r.server.send_to_client(id, {150, "", "x"}));
    CHECK(!r.server.send_to_client(id, {600, "", "x"}));
    CHECK(r.server.send_to_client(id, {250, "", "x"}));
    wire.expect("250");
    CHECK(wire.ask("QUIT") == 221);
    wire.expect_end();
    CHECK(eventually([&] { return !r.server.send_to_client(id, {250, "", "x"}); }));

    Reached deaf(brief());
    auto other = dial(deaf.server);
    other.expect("220");
    CHECK(!deaf.server.send_to_client(deaf.ids.last(), {250, "", "x"}));
}

TEST_CASE("a reply waits until the client is between commands, and no more than 16 do") {
    Reached r;
    auto wire = dial(r.server);
    wire.expect("220");
    CHECK(wire.ask("EHLO me") == 250);
    CHECK(wire.ask("MAIL FROM:<a@b>") == 250);
    CHECK(wire.ask("RCPT TO:<c@d>") == 250);
    CHECK(wire.ask("DATA") == 354);
    const auto id = r.ids.last();
    for (int i = 0; i < 16; ++i) CHECK(r.server.send_to_client(id, {250, "", "news " + std::to_string(i)}));
    CHECK(!r.server.send_to_client(id, {250, "", "one too many"}));
    wire.say("x\r\n.");
    wire.expect("250 2.0.0 OK");
    for (int i = 0; i < 16; ++i) wire.expect("250 news " + std::to_string(i));
    CHECK(wire.ask("QUIT") == 221);
}

TEST_CASE("many threads may say something to many sessions that talk") {
    Reached r(with_tls(reachable()));
    std::atomic<bool> over{false};
    std::atomic<int> said{0}, heard{0}, ready{0};
    std::vector<std::unique_ptr<Background>> clients;
    for (int i = 0; i < 4; ++i)
        clients.push_back(std::make_unique<Background>([&, i] {
            auto wire = dial(r.server);
            wire.expect("220");
            if (i % 2) {
                CHECK(wire.ask("STARTTLS") == 220);
                encrypt(wire);
            }
            ++ready;
            for (int n = 0; n < 100; ++n) {
                wire.say("RSET");
                while (wire.expect("250").find("news") != std::string::npos) ++heard;
            }
        }));
    Background talker([&] {
        while (ready < 4 && !over) std::this_thread::yield();
        while (!over) {
            Names ids;
            {
                const std::lock_guard lock(r.ids.mutex);
                ids = r.ids.ids;
            }
            for (const auto& id : ids) said += r.server.send_to_client(id, {250, "2.0.0", "news"});
            std::this_thread::yield();
        }
    });
    for (auto& c : clients) c->join();
    over = true;
    talker.join();
    CHECK(heard <= said);
    CHECK(heard > 0);
}
