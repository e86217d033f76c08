// plugin_headers -- Received and Message-ID, each once on one message, whoever comes behind.
#include <Net/SMTP/Server/Plugins/Headers.hpp>
#include <Net/SMTP/Server/Plugins/Origin.hpp>
#include <regex>

#include "arriving.hpp"
#include "next_hop.hpp"

using namespace test;

namespace {

Plugins headers(const Headers::Options& options = {}) { return {std::make_shared<Headers>(options)}; }

const std::string with_id = "Subject: x\r\nMessage-ID: <1@there>\r\n\r\nhello\r\n";
const std::string without_id = "Subject: x\r\n\r\nMessage-ID: <1@there>\r\n";

// What stands in front of a text: "R" the Received field it should have, "M" a Message-ID of its own id, "D" a Date,
// "-" an empty line; "?" anything else.
std::string added(const std::string& whole, const std::string& text, const std::string& id,
                  const std::string& protocol = "ESMTP") {
    if (!whole.ends_with(text)) return "?";
    auto front = whole.substr(0, whole.size() - text.size());
    const std::string date =
        "(Mon|Tue|Wed|Thu|Fri|Sat|Sun), [1-9][0-9]? "
        "(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) 2[0-9]{3} "
        "[0-2][0-9]:[0-5][0-9]:[0-6][0-9] \\+0000\r\n";
    const std::regex received("^Received: from me \\(\\[127\\.0\\.0\\.1\\]\\)\r\n\tby mx\\.test with " + protocol +
                              " id " + id + ";\r\n\t" + date);
    const std::regex dated("^Date: " + date);
    const auto message_id = "Message-ID: <" + id + "@mx.test>\r\n";
    std::string out;
    while (!front.empty()) {
        std::smatch match;
        std::size_t size = 0;
        if (std::regex_search(front, match, received)) out += 'R', size = std::size_t(match.length());
        else if (std::regex_search(front, match, dated)) out += 'D', size = std::size_t(match.length());
        else if (front.starts_with(message_id)) out += 'M', size = message_id.size();
        else if (front.starts_with("\r\n")) out += '-', size = 2;
        else return out + '?';
        front.erase(0, size);
    }
    return out;
}

std::string added(const std::string& text, const Setup& setup) {
    const auto mail = seen(text, setup);
    return added(mail.text, text, mail.id);
}

// What a next hop gets of it.
std::string relayed(const std::string& text, const Plugins& plugins, Setup setup = taking_all()) {
    NextHop hop;
    std::string id;
    setup.handler = [&](Server::Client& c) {
        id = c.MSG.id();
        Relay(c.FROM, c.TO, c.MSG, via(hop));
    };
    CHECK(arrive(text, with(plugins, std::move(setup))).reply == "250 2.0.0 taken by the next hop");
    return added(hop.only().text, text, id);
}

}  // namespace

TEST_CASE("Received stands in front, and Message-ID where it was missing, in memory and in a file") {
    Folder spool;
    for (const auto& setup : {taking_all(), in_files(spool)}) {
        CHECK(added(with_id, with(headers(), setup)) == "R");
        CHECK(added(without_id, with(headers(), setup)) == "RM");
        CHECK(added(with_id, setup) == "");
        CHECK(added(without_id, setup) == "");
        CHECK(added("Subject: x\r\n\r\n" + long_body(), with(headers(), setup)) == "RM");
    }
}

TEST_CASE("a Message-ID is one in the header section, however it is written") {
    const auto setup = with(headers(), taking_all());
    for (const auto* there : {"message-id: <x>\r\n", "MESSAGE-ID : <x>\r\n", "A: b\r\nMessage-Id:\r\n <x>\r\n\r\n",
                              "A: b\nMessage-ID:\n\n", "Message-ID:"}) {
        CAPTURE(there);
        CHECK(added(there, setup) == "R");
    }
    for (const auto* missing :
         {"A: b\r\n\r\nMessage-ID: <x>\r\n", "A: Message-ID: <x>\r\n", "A: b\r\n Message-ID: <x>\r\n",
          "X-Message-ID: <x>\r\n", "Message-ID\r\nA: b\r\n", "Resent-Message-ID: <x>\r\n\r\n"}) {
        CAPTURE(missing);
        CHECK(added(missing, setup) == "RM");
    }
}

TEST_CASE("a text without a header section gets one that ends") {
    const auto setup = with(headers(), taking_all());
    for (const auto* text : {"hello\r\nMessage-ID\r\n", "hello", "\xe4\xf6: \r\n"}) {
        CAPTURE(text);
        CHECK(added(text, setup) == "RM-");
        CHECK(added(text, with(headers({.message_id = false}), taking_all())) == "R-");
        CHECK(added(text, with(headers({.received = false}), taking_all())) == "M-");
        CHECK(added(text, with(headers({.received = false, .message_id = false}), taking_all())) == "");
    }
    for (const auto* text : {"", "\r\n", "\r\nhello\r\n"}) {
        CAPTURE(text);
        CHECK(added(text, setup) == "RM");
    }
}

TEST_CASE("each of the two can be left out") {
    CHECK(added(without_id, with(headers({.received = false}), taking_all())) == "M");
    CHECK(added(without_id, with(headers({.message_id = false}), taking_all())) == "R");
    CHECK(added(with_id, with(headers({.received = false}), taking_all())) == "");
    CHECK(added(without_id, with(headers({.received = false, .message_id = false}), taking_all())) == "");
}

TEST_CASE("a Relay behind it adds no second Received, and one without it the only one") {
    Folder spool;
    for (const auto& setup : {taking_all(), in_files(spool)}) {
        CHECK(relayed(with_id, headers(), setup) == "R");
        CHECK(relayed(without_id, headers(), setup) == "RM");
        CHECK(relayed(without_id, {}, setup) == "R");
        CHECK(relayed(without_id, headers({.received = false}), setup) == "RM");
        CHECK(relayed(without_id, headers({.message_id = false}), setup) == "R");
    }
}

TEST_CASE("twice in a pipeline it adds nothing twice") {
    const Plugins twice{headers()[0], headers()[0]};
    CHECK(added(without_id, with(twice, taking_all())) == "RM");
    CHECK(relayed(without_id, twice) == "RM");
    CHECK(relayed("no header", twice) == "?");  // ends in a CRLF there
    CHECK(relayed("no header\r\n", twice) == "RM-");
}

TEST_CASE("where a submission was completed there is one Message-ID") {
    auto setup = taking_all();
    setup.options.complete = true;
    CHECK(added(without_id, setup) == "DM");
    CHECK(added(without_id, with(headers(), setup)) == "RDM");
    CHECK(added("Date: today\r\n" + with_id, with(headers(), setup)) == "R");
    CHECK(relayed(without_id, headers(), setup) == "RDM");
    CHECK(relayed("no header\r\n", headers(), setup) == "RDM-");
}

TEST_CASE("behind Origin no Received is added, and Origin behind it takes ours out") {
    const Plugins behind{std::make_shared<Origin>(), headers()[0]}, before{headers()[0], std::make_shared<Origin>()};
    const auto travelled = "Received: from a\r\n\tby b; today\r\n" + with_id;
    for (const auto& plugins : {behind, before}) {
        CHECK(seen(travelled, with(plugins, taking_all())).text == with_id);
        CHECK(relayed(with_id, plugins) == "");
    }
    CHECK(relayed(travelled, headers()) == "R");
}

TEST_CASE("what is saved has them, once, and a Maildir gives it its Return-Path only") {
    Folder folder;
    for (auto setup : {taking_all(), in_files(folder)}) {
        std::string id;
        const auto path = folder / ("saved" + std::to_string(setup.options.spool_above));
        setup.handler = [&](Server::Client& c) {
            id = c.MSG.id();
            c.MSG.save(path);
        };
        CHECK(arrive(without_id, with(headers(), setup)).reply == "250 2.0.0 Saved");
        CHECK(added(content_of(path), without_id, id) == "RM");

        const auto box = std::make_shared<Maildir>(path + "box", Maildir::Options{.line_ends = LineEnds::crlf});
        setup.handler = [&](Server::Client& c) {
            id = c.MSG.id();
            Relay(c.FROM, c.TO, c.MSG, {.target = box});
        };
        CHECK(arrive(without_id, with(headers(), setup)).reply == "250 2.0.0 Delivered");
        const auto kept = content_of(std::filesystem::directory_iterator(path + "box/new")->path().string());
        const std::string return_path = "Return-Path: <a@b>\r\n";
        REQUIRE(kept.starts_with(return_path));
        CHECK(added(kept.substr(return_path.size()), without_id, id) == "RM");
    }
}

TEST_CASE("it says by which protocol the mail came, LMTP too") {
    auto setup = taking_all();
    setup.options.protocol = Protocol::lmtp;
    Talk talk(with(headers(), setup));
    talk.play("S: 220\nC: LHLO me\nS: 250\nC: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<c@d>\nS: 250\nC: DATA\nS: 354");
    talk.wire.send(without_id + ".\r\n");
    talk.play("S: 250\nC: QUIT\nS: 221\nS: EOF");
    const auto mails = talk.end();
    REQUIRE(mails.size() == 1);
    CHECK(added(mails[0].text, without_id, mails[0].id, "LMTP") == "RM");
}

TEST_CASE("each mail of a session has its own") {
    Talk talk(with(headers(), taking_all()));
    talk.play("S: 220\nC: HELO me\nS: 250");
    for (int n = 0; n < 3; ++n) {
        talk.play("C: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<c@d>\nS: 250\nC: DATA\nS: 354");
        talk.wire.send(without_id + ".\r\n");
        talk.play("S: 250");
    }
    talk.play("C: QUIT\nS: 221\nS: EOF");
    const auto mails = talk.end();
    REQUIRE(mails.size() == 3);
    for (const auto& m : mails) CHECK(added(m.text, without_id, m.id, "SMTP") == "RM");
    CHECK(mails[0].id != mails[1].id);
}

TEST_CASE("what is refused, a sink and a message of the program's own without an id") {
    const auto refuse = doing([](Event::Arrived& e) { e.reply = {554, "5.7.1", "no"}; });
    auto setup = taking_all();
    std::string text;
    setup.listeners = [&](Server& s) { s.on<Event::Arrived>([&](Event::Arrived& e) { text = e.client.MSG.view(); }); };
    CHECK(arrive(without_id, with({refuse, headers()[0]}, setup)).reply == "554 5.7.1 no");
    CHECK(text == without_id);

    setup.listeners = [](Server& s) {
        s.on<Event::Data>([](Event::Data& e) { e.client.into([](std::string_view) {}); });
    };
    CHECK(seen(without_id, with(headers(), setup)).sunk);

    const auto own = doing([](Event::Arrived& e) { e.client.MSG = Message(without_id); });
    const auto mail = seen(without_id, with({own, headers()[0]}, taking_all()));
    CHECK(mail.text.starts_with("Received: by mx.test;\r\n\t"));
    CHECK(count(mail.text, "Message-ID:") == 1);
}

TEST_CASE("any header section stays behind what is added") {
    std::mt19937 random{7};
    static const std::vector<std::string> parts{
        "Message-ID", "MESSAGE-id", ":",  ": <x>", " ",     "\t", "\r\n",
        "\r\n",       "\n",         "\r", "\xe4",  "Date:", "x",  "Received: y\r\n"};
    for (int n = 0; n < 150; ++n) {
        std::string text;
        for (auto k = random() % 12; k > 0; --k) text += parts[random() % parts.size()];
        CAPTURE(text);
        const bool missing = without("message-id", text) == text;
        const auto what = added(text, with(headers(), taking_all()));
        CHECK((what == (missing ? "RM" : "R") || (missing && what == "RM-")));
    }
}
