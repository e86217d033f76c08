// plugin_origin -- Received fields that go, everything else that stays, and that the mail is still the same one.
#include <Net/SMTP/Server/Plugins/Headers.hpp>
#include <Net/SMTP/Server/Plugins/Origin.hpp>
#include <atomic>

#include "../Server/Header.hpp"
#include "arriving.hpp"
#include "next_hop.hpp"

using namespace test;

namespace {

const Plugins front{std::make_shared<Origin>()};

const std::string received = "Received: from a\r\n\tby b;\r\n Mon, 1 Jan 2024 00:00:00 +0000\r\n";
const std::string subject = "Subject: hello\r\n", body = "\r\nReceived: in the body\r\nhello\r\n";
const std::string travelled = received + received + subject + "rEcEiVeD:\r\nTo: you\r\n" + body;
const std::string plain = subject + "To: you\r\n" + body;

// What is sent, and what is left of it.
const std::vector<std::pair<std::string, std::string>> cuts{
    {"", ""},
    {"Received: x", ""},
    {"Received: x\r\n", ""},
    {"Received: x\r\n y", ""},
    {"\r\nReceived: x\r\n", "\r\nReceived: x\r\n"},
    {"\nReceived: x\n", "\nReceived: x\n"},
    {"\rReceived: x\n", "\rReceived: x\n"},
    {"A: b\nReceived: x\n y\nC: d\n\nReceived: z\n", "A: b\nC: d\n\nReceived: z\n"},
    {"A: b\rReceived: x\r\nC: d\r\n", "A: b\rReceived: x\r\nC: d\r\n"},
    {"Received: x\rA: b\r\nC: d\r\n", "C: d\r\n"},
    {"Received \t:x\r\nA: b\r\n", "A: b\r\n"},
    {"Received\r\n : x\r\nA: b\r\n", "A: b\r\n"},
    {"Received\r\nA: b\r\n", "Received\r\nA: b\r\n"},
    {"Received", "Received"},
    {"Received \r\n \r\n", "Received \r\n \r\n"},
    {" Received: x\r\nA: b\r\n", " Received: x\r\nA: b\r\n"},
    {"X-Received: x\r\nReceived-SPF: x\r\nReceive: x\r\n", "X-Received: x\r\nReceived-SPF: x\r\nReceive: x\r\n"},
    {"no header\r\nReceived: x\r\nat all", "no header\r\nat all"},
    {"A: b\r\n\tReceived: x\r\n", "A: b\r\n\tReceived: x\r\n"},
    {"Received: \x80\xff\r\n\xc3\xa4: \xc3\xb6\r\nReceived\xc3: x\r\n", "\xc3\xa4: \xc3\xb6\r\nReceived\xc3: x\r\n"},
    {std::string("Received:\0x\r\nA\0: b\r\n", 20), std::string("A\0: b\r\n", 7)},
    {travelled, plain},
};

// A header section of this and that, and a body.
std::string any_header(std::mt19937& random) {
    static const std::vector<std::string> parts{"Received", "rECEIVED",
                                                "Receive",  "d",
                                                ":",        ": ",
                                                " ",        "\t",
                                                "\r\n",     "\r\n",
                                                "\r\n ",    "\n",
                                                "\r",       "\n",
                                                "\xe4",     "Subject:",
                                                "x",        "\r\nReceived:",
                                                "X-",       "\r\nReceived: from"};
    std::string out;
    for (auto n = random() % 60; n > 0; --n) {
        out += parts[random() % parts.size()];
        if (random() % 40 == 0) out.append(random() % 900, "x \t"[random() % 3]);
        if (random() % 300 == 0) out.append(65500 + random() % 80, 'x');
    }
    return out;
}

}  // namespace

TEST_CASE("Received fields go, all other octets stay, in memory and in a file") {
    Folder spool;
    for (const auto& row : cuts) {
        const auto &text = row.first, &left = row.second;  // clang 14 captures no structured binding
        CAPTURE(text);
        CHECK(without("received", text) == left);
        const auto in_memory = seen(text, with(front, taking_all()));
        CHECK(in_memory.text == left);
        CHECK_FALSE(in_memory.spooled);
        const auto filed = seen(text, with(front, in_files(spool)));
        CHECK(filed.text == left);
        CHECK(filed.spooled == !text.empty());
    }
    CHECK(spool.names().empty());
}

TEST_CASE("without the plugin they stay") { CHECK(seen(travelled, taking_all()).text == travelled); }

TEST_CASE("a header section of any size is looked at to its end") {
    Folder spool;
    std::string large;
    for (int i = 0; large.size() < (3 << 20); ++i) {
        large += "X-" + std::to_string(i) + ": " + std::string(std::size_t(i % 200), 'x') + "\r\n";
        if (i % 7 == 0) large += "Received: from " + std::to_string(i) + "\r\n\tby me\r\n";
    }
    const auto one_field = "Subject: " + std::string(2 << 20, 'x') + "\r\n\t" + std::string(1 << 20, 'y') + "\r\n";
    for (const auto& text : {large, large + body, one_field + received, received + one_field + body,
                             "Received: " + std::string(2 << 20, 'x') + "\r\n z\r\n" + plain}) {
        const auto left = without("received", text);
        REQUIRE(left.size() < text.size());
        CHECK((seen(text, with(front, taking_all())).text == left));
        CHECK((seen(text, with(front, in_files(spool))).text == left));
    }
}

TEST_CASE("what stands for a name without an end goes as if it were one") {
    const auto blanks = std::string(5000, ' ');
    CHECK(seen("Received" + blanks + "\r\nA: b\r\n", with(front, taking_all())).text == "A: b\r\n");
    CHECK(seen("Received" + blanks + ": x\r\nA: b\r\n", with(front, taking_all())).text == "A: b\r\n");
}

TEST_CASE("any header section is cut like line by line, in any pieces") {
    std::mt19937 random{5};
    for (int n = 0; n < 3000; ++n) {
        const auto text = any_header(random);
        const auto left = without("received", text);
        if (text.find(std::string(FieldFilter::most_name - 20, ' ')) != text.npos) continue;
        CAPTURE(text);
        REQUIRE((Message(text).edited({.without = "Received"}).view() == left));
        if (n % 10 == 0) REQUIRE((in_file(text).edited({.without = "RECEIVED"}).view() == left));

        FieldFilter filter("received");
        std::string kept;
        std::string_view rest = text;
        while (!rest.empty()) {
            const auto some = rest.substr(0, 1 + random() % 9);
            kept += filter.feed(some, kept);
            rest.remove_prefix(some.size());
        }
        filter.finish(kept);
        REQUIRE((kept == left));
    }
}

TEST_CASE("a large mail in a file stays in a file, and every way to its octets shows the same") {
    Folder spool;
    const auto text = travelled + long_body();
    auto setup = in_files(spool);
    setup.options.spool_above = 64 << 10;
    setup.handler = [&](Server::Client& c) {
        const auto& m = c.MSG;
        const auto left = plain + long_body();
        CHECK(m.spooled());
        CHECK(m.size() == left.size());
        CHECK((m.view() == left));
        CHECK((all_of(*m.stream()) == left));
        std::string some(9, '\0');
        CHECK(m.read(left.size() - 4, some.data(), some.size()) == 4);
        CHECK(some.substr(0, 4) == left.substr(left.size() - 4));
        CHECK(m.headers("received").empty());
        CHECK(m.header("subject") == "hello");
        {
            const Descriptor out(open((spool / "written").c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
            m.write_to(out.get());
        }
        CHECK((content_of(spool / "written") == left));
        m.save(spool / "saved");
        CHECK((content_of(spool / "saved") == left));
        m.save(spool / "again");  // another file
        CHECK((content_of(spool / "again") == left));
    };
    CHECK(arrive(text, with(front, setup)).reply == "250 2.0.0 Saved");
    CHECK(spool.names().size() == 3);
}

TEST_CASE("where the memory for a second copy is missing, it goes into a file") {
    Folder spool;
    auto setup = taking_all();
    setup.options.memory = 100 << 10;
    setup.options.spool_dir = spool.path;
    const auto text = travelled + std::string(50'000, 'x');
    const auto mail = seen(text, with(front, setup));
    CHECK(mail.text == plain + std::string(50'000, 'x'));
    CHECK(mail.spooled);
    CHECK_FALSE(seen(text, setup).spooled);
}

TEST_CASE("who can't write a mail anew takes none") {
    for (const bool filed : {true, false}) {
        CAPTURE(filed);
        Folder parent;
        const auto spool = parent / "spool";
        std::filesystem::create_directory(spool);
        auto setup = taking_all();
        setup.options.spool_dir = spool;
        if (filed) setup.options.spool_above = 0;
        else setup.options.memory = 100 << 10;
        int behind = 0;
        setup.listeners = [&](Server& s) {
            s.on<Event::Arrived>([&](Event::Arrived& e) { behind += e.reply.positive(); });
        };
        const auto gone = doing([&](Event::Arrived&) { std::filesystem::remove_all(spool); });
        const auto arrived = arrive(travelled + std::string(50'000, 'x'), with({gone, front[0]}, setup));
        CHECK(arrived.reply == "451 4.3.0 Local error in processing");
        CHECK(arrived.mails.empty());
        CHECK(arrived.troubles.size() == 1);
        CHECK(behind == 0);
    }
}

TEST_CASE("it is still the message of the session: id, trace, baggage and verdicts are the same") {
    Folder spool;
    auto setup = in_files(spool);
    std::string id;
    setup.listeners = [](Server& s) {
        s.on<Event::Rcpt>([](Event::Rcpt& e) { e.client.baggage() = 42; });
        s.on<Event::Answered>([](Event::Answered& e) {
            CHECK(e.message.view() == travelled);  // as it arrived
            CHECK(e.verdicts.size() == 1);
            CHECK(e.verdicts[0].str() == "554 5.7.1 not this one");
        });
    };
    setup.handler = [&](Server::Client& c) {
        CHECK(c.MSG.id().starts_with(c.id()));
        CHECK(c.MSG.trace().helo == "me");
        CHECK(c.MSG.received_at() > 0);
        CHECK(c.MSG.sender_present());
        CHECK(std::any_cast<int>(c.MSG.baggage()) == 42);
        CHECK(c.MSG.own_received() == OwnReceived::unwanted);
        CHECK(c.MSG.custody().attached());
        CHECK(c.MSG.custody().forgotten() == 1);
        c.MSG.custody().begin();
        c.MSG.custody().settle({250, "2.0.0", "taken"});
        c.reconsider();
        c.reject({554, "5.7.1", "not this one"});
    };
    CHECK(arrive(travelled, with(front, setup)).reply == "554 5.7.1 not this one");
}

TEST_CASE("nobody took it is said of it too, and a copy keeps its octets but no way to take it") {
    Folder folder;
    std::optional<Message> before, after;
    const auto keep = doing([&](Event::Arrived& e) { before = e.client.MSG; });
    auto setup = taking_all();
    setup.handler = [&](Server::Client& c) { after = c.MSG; };
    const auto arrived = arrive(travelled, with({keep, front[0]}, setup));
    CHECK(arrived.reply.starts_with("451 4.3.0 Nobody took"));
    REQUIRE((before && after));
    CHECK(before->view() == travelled);
    CHECK(before->own_received() == OwnReceived::due);
    CHECK(after->view() == plain);
    CHECK_THROWS_AS(after->save(folder / "late"), std::logic_error);
    CHECK_THROWS_AS(Relay(Sender("a@b"), recipients({"c@d"}), *after, Relay::Options{}), std::logic_error);
}

TEST_CASE("a Relay adds no Received field behind it, and its next hop's verdict is the sender's") {
    Folder spool;
    for (auto setup : {taking_all(), in_files(spool)}) {
        NextHop hop(Manners{{".", "250 2.0.0 taken as 17"}});
        setup.handler = [&](Server::Client& c) { Relay(c.FROM, c.TO, c.MSG, via(hop)); };
        CHECK(arrive(travelled, with(front, setup)).reply == "250 2.0.0 taken as 17");
        const auto heard = hop.only();
        CHECK(heard.text == plain);
        CHECK(heard.commands[1] == "MAIL FROM:<a@b> SIZE=" + std::to_string(plain.size()));

        NextHop refuses(Manners{{".", "554 5.7.1 no"}});
        setup.handler = [&](Server::Client& c) { Relay(c.FROM, c.TO, c.MSG, via(refuses)); };
        CHECK(arrive(travelled, with(front, setup)).reply == "554 5.7.1 no");
    }
}

TEST_CASE("a Relay that was asked at RCPT goes on with the same connection") {
    NextHop hop;
    auto options = via(hop);
    options.at_rcpt = true;
    auto setup = relaying(options);
    CHECK(arrive(travelled, with(front, setup)).reply == "250 2.0.0 taken by the next hop");
    CHECK(hop.only().text == plain);
}

TEST_CASE("a Maildir and a command get it without") {
    Folder folder;
    auto setup = in_files(folder);
    const auto box = std::make_shared<Maildir>(folder / "box", Maildir::Options{.line_ends = LineEnds::crlf});
    setup.handler = [&](Server::Client& c) { Relay(c.FROM, c.TO, c.MSG, {.target = box}); };
    CHECK(arrive(travelled, with(front, setup)).reply == "250 2.0.0 Delivered");
    const auto file = std::filesystem::directory_iterator(folder / "box/new")->path().string();
    CHECK(content_of(file) == "Return-Path: <a@b>\r\n" + plain);

    const auto command = std::make_shared<Pipe>(std::vector<std::string>{"/bin/sh", "-c", "cat > " + folder / "piped"},
                                                Pipe::Options{.line_ends = LineEnds::crlf});
    setup.handler = [&](Server::Client& c) { Relay(c.FROM, c.TO, c.MSG, {.target = command}); };
    CHECK(arrive(travelled, with(front, setup)).reply == "250 2.0.0 Delivered");
    CHECK(content_of(folder / "piped") == "Return-Path: <a@b>\r\n" + plain);
}

TEST_CASE("by LMTP each recipient still hears his own verdict") {
    auto setup = taking_all();
    setup.options.protocol = Protocol::lmtp;
    setup.handler = [](Server::Client& c) {
        CHECK(c.MSG.view() == plain);
        c.accept(c.TO[0]);
        c.reject(c.TO[1], {550, "5.1.1", "not him"});
    };
    Talk talk(with(front, setup));
    talk.play(
        "S: 220\nC: LHLO me\nS: 250\nC: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<one@d>\nS: 250\nC: RCPT TO:<two@d>\n"
        "S: 250\nC: DATA\nS: 354");
    talk.wire.send(travelled + ".\r\n");
    talk.play("S: 250 2.0.0\nS: 550 5.1.1 not him\nC: QUIT\nS: 221\nS: EOF");
    CHECK(talk.end().size() == 1);
}

TEST_CASE("what is refused, and what went into a sink, stays as it is") {
    const auto refuse = doing([](Event::Arrived& e) { e.reply = {554, "5.7.1", "no"}; });
    std::string text;
    auto setup = taking_all();
    setup.listeners = [&](Server& s) { s.on<Event::Arrived>([&](Event::Arrived& e) { text = e.client.MSG.view(); }); };
    CHECK(arrive(travelled, with({refuse, front[0]}, setup)).reply == "554 5.7.1 no");
    CHECK(text == travelled);

    std::string sunk_text;
    setup.listeners = [&](Server& s) {
        s.on<Event::Data>(
            [&](Event::Data& e) { e.client.into([&](std::string_view octets) { sunk_text += octets; }); });
    };
    CHECK(seen(travelled, with(front, setup)).sunk);
    CHECK(sunk_text == travelled);
    CHECK_THROWS_AS(sunk(5).edited({}), std::logic_error);
}

TEST_CASE("several mails of many sessions at once are each cut for themselves") {
    Folder spool;
    std::atomic<int> right{0};
    std::vector<Background> sessions;
    for (int i = 0; i < 8; ++i)
        sessions.emplace_back([&, i] {
            auto setup = i % 2 ? in_files(spool) : taking_all();
            const auto own = "X-Session: " + std::to_string(i) + "\r\n";
            setup.handler = [&, own](Server::Client& c) {
                right += c.MSG.view() == own + plain;
                c.accept();
            };
            Talk talk(with(front, setup));
            talk.play("S: 220\nC: EHLO me\nS: 250");
            for (int n = 0; n < 20; ++n) {
                const auto text = received + own + travelled;
                talk.play("C: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<c@d>\nS: 250");
                talk.wire.send("BDAT " + std::to_string(text.size()) + " LAST\r\n" + text);
                talk.play("S: 250");
            }
            talk.play("C: QUIT\nS: 221\nS: EOF");
            talk.end();
        });
    for (auto& s : sessions) s.join();
    CHECK(right == 160);
}

TEST_CASE("a message of the program's own can be edited as well") {
    const Message own(travelled), none;
    const auto edited = own.edited({.without = "received", .front = "X-New: y\r\n"});
    CHECK(edited.view() == "X-New: y\r\n" + plain);
    CHECK(edited.own_received() == OwnReceived::due);
    CHECK(own.view() == travelled);
    CHECK(edited.edited({.without = "X-New", .received = OwnReceived::there}).view() == plain);
    CHECK(edited.edited({.received = OwnReceived::there}).edited({}).own_received() == OwnReceived::there);
    CHECK(none.edited({.without = "received"}).view().empty());
    CHECK(none.edited({.front = "A: b\r\n"}).view() == "A: b\r\n");
    for (const auto* broken : {"A: b", "A: b\r", "A: b\n", "\r\nA"})
        CHECK_THROWS_AS(own.edited({.front = broken}), std::invalid_argument);
    // One custody for all that was made of it.
    const auto waited = Message(travelled);
    const std::vector<Recipient> to(1);
    waited.custody().open(to);
    CHECK(&waited.edited({.without = "received"}).custody() == &waited.custody());
    CHECK(&none.edited({}).custody() == &none.custody());
}

TEST_CASE("whether a line end stands alone is known of the edited text") {
    for (const auto* text : {"A: b\nReceived: x\r\n", "A: b\r\nReceived: x\n\r\n", "A: b\r\nReceived: x\r\n\r\nx\r",
                             "A: b\r\nReceived: x\r\n\r\nx\r\n"}) {
        CAPTURE(text);
        const Message before{std::string(text)};
        const bool bare = before.bare_line_ends();
        const auto after = before.edited({.without = "Received"});
        CHECK(after.bare_line_ends() == (bare && std::string_view(text) != "A: b\r\nReceived: x\n\r\n"));
        CHECK(before.edited({.front = "A: b\nC: d\r\n"}).bare_line_ends());
        CHECK(before.edited({.front = "A: b\r\n"}).bare_line_ends() == bare);
    }
}
