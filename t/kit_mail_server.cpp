// kit_mail_server -- the kit's MailServer: takes mail, shows it, answers as it is told, and ends in time.
#include <doctest/doctest.h>

#include <atomic>

#include "peer.hpp"

using namespace test;
using Test::Failure;
using Test::MailServer;

namespace {

// The reply to the last line of an envelope, a text, or both, said line by line; "" for the end of the connection.
std::string answer(const MailServer& server, std::initializer_list<const char*> lines) {
    Wire wire(server.address());
    std::string reply;
    const auto heard = [&] {
        try {
            return wire.reply();
        } catch (const Failure&) {
            return std::string();
        }
    };
    reply = heard();
    for (const auto* line : lines) {
        wire.say(line);
        reply = heard();
    }
    return reply;
}

bool sent(const MailServer& server, const char* from = "a@b", std::vector<Recipient> to = {Recipient("c@d")},
          const char* text = "Subject: x\r\n\r\nhello\r\n") {
    const Relay relay(Sender(from), to, Message(text),
                      {.host = server.address(), .hostname = "me.test", .received = false});
    return relay.delivered();
}

const std::string envelope = "S: 220\nC: EHLO me\nS: 250\nC: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<c@d>\nS: 250\n";
const std::string text = "C: DATA\nS: 354\nC: hello\nC: .\n";

template <class Work>
std::string failure(Work work) {
    try {
        work();
    } catch (const Failure& f) {
        return f.what();
    }
    return "";
}

}  // namespace

TEST_CASE("MailServer: a mail arrives with its parameters, its text octet for octet, and who sent it how") {
    MailServer server;
    CHECK(server.address() == "127.0.0.1:" + std::to_string(server.port()));
    Wire wire(server.address());
    wire.play(R"(
        S: 220 mail.test
        C: EHLO me.test
        S: 250
        C: MAIL FROM:<a@b> BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=q SIZE=10
        S: 250
        C: RCPT TO:<"c d"@e> NOTIFY=NEVER
        S: 250
        C: RCPT TO:<f@g>
        S: 250
        C: DATA
        S: 354
        C: subject: one\r\n two
        C:
        C: ..dot
        C: .
        S: 250
        C: QUIT
        S: 221
        S: EOF
    )");
    const auto mails = server.wait_for(1);
    REQUIRE(mails.size() == 1);
    const auto& mail = mails[0];
    CHECK(mail.from.str() == "a@b");
    CHECK(mail.from.smtputf8);
    CHECK(mail.from.body == BodyType::eight_bit_mime);
    CHECK(mail.from.envid == "q");
    REQUIRE(mail.to.size() == 2);
    CHECK(mail.to[0].str() == "\"c d\"@e");
    CHECK(mail.to[0].notify.never);
    CHECK(mail.to[1].str() == "f@g");
    CHECK(mail.text == "subject: one\r\n two\r\n\r\n.dot\r\n");
    CHECK(mail.header("Subject") == "one two");
    CHECK(mail.header("Date") == std::nullopt);
    CHECK(mail.helo == "me.test");
    CHECK(mail.protocol == "UTF8SMTP");
    CHECK(mail.peer.host == "127.0.0.1");
    CHECK(mail.reply.str() == "250 2.0.0 OK");
    CHECK(server.refused().empty());
    CHECK(server.troubles().empty());
}

TEST_CASE("MailServer: who was told 250 finds his mail there at once") {
    MailServer server;
    for (std::size_t n = 1; n <= 50; ++n) {
        REQUIRE(sent(server));
        CHECK(server.mails().size() == n);
    }
}

TEST_CASE("MailServer: when wait_for() returns the senders have been answered, so the test may end") {
    for (int i = 0; i < 30; ++i) {
        bool delivered = false;
        Background sender;
        {
            MailServer server;
            sender = Background([&] { delivered = sent(server); });
            CHECK(server.wait_for(1).size() == 1);
        }
        sender.join();
        CHECK(delivered);
    }
}

TEST_CASE("MailServer: wait_for() waits for what is still to come, and gives all there is") {
    MailServer server;
    Background sender([&] {
        for (const char* from : {"one@b", "two@b", "three@b"}) sent(server, from);
    });
    CHECK(server.wait_for(0).size() <= 3);
    const auto mails = server.wait_for(3);
    REQUIRE(mails.size() == 3);
    CHECK(mails[0].from.str() == "one@b");
    CHECK(mails[2].from.str() == "three@b");
    sender.join();
    CHECK(server.wait_for(1, 0ms).size() == 3);
}

TEST_CASE("MailServer: wait_for() fails when too few come, in time, and says what has come instead") {
    MailServer server;
    server.reply_to(".", {550, "5.7.1", "Not that one"}, 1);
    CHECK(!sent(server));
    CHECK(sent(server));
    server.verdict([](const Test::Mail&, const Recipient&) -> Reply { throw std::runtime_error("out of order"); });
    CHECK(!sent(server));
    const auto began = Clock::now();
    const auto what = failure([&] { server.wait_for(2, 200ms); });
    CHECK(Clock::now() - began >= 200ms);
    CHECK(Clock::now() - began < patience);
    CHECK(what.find("1 of 2 mails") != std::string::npos);
    CHECK(what.find("550 5.7.1 Not that one") != std::string::npos);
    CHECK(what.find("out of order") != std::string::npos);
    server.clear();
    CHECK(server.mails().empty());
    CHECK(server.refused().empty());
    CHECK(server.troubles().empty());
    CHECK(failure([&] { server.wait_for(1, 1ms); }).find("0 of 1 mails") != std::string::npos);
}

TEST_CASE("MailServer: reply_to() answers at every place") {
    const Reply no{550, "5.7.1", "No"};
    for (const char* beginning :
         {"", "EHLO", "EHLO me", "MAIL", "mail from:<A@", "RCPT", "RCPT TO:<c@d>", "DATA", "."}) {
        CAPTURE(beginning);
        MailServer server;
        server.reply_to(beginning, no);
        std::string script = envelope + text;
        const std::string place = beginning;
        auto heard =
            place.empty()                                         ? answer(server, {})
            : place.starts_with("EHLO")                           ? answer(server, {"EHLO me"})
            : place.starts_with("MAIL") || place.starts_with("m") ? answer(server, {"EHLO me", "MAIL FROM:<a@b>"})
            : place.starts_with("RCPT") ? answer(server, {"EHLO me", "MAIL FROM:<a@b>", "RCPT TO:<c@d>"})
            : place == "DATA"           ? answer(server, {"EHLO me", "MAIL FROM:<a@b>", "RCPT TO:<c@d>", "DATA"})
                              : answer(server, {"EHLO me", "MAIL FROM:<a@b>", "RCPT TO:<c@d>", "DATA", "hello\r\n."});
        CHECK(heard == "550 5.7.1 No");
        CHECK(server.mails().empty());
        CHECK(server.refused().size() == (place == "." ? 1 : 0));
        server.be_polite();
        CHECK(sent(server));
    }
}

TEST_CASE("MailServer: reply_to() may change what is said when all is well") {
    MailServer server;
    server.reply_to("", {220, "", "somebody else"});
    server.reply_to("RCPT", {251, "2.1.5", "Forwarded"});
    server.reply_to(".", {250, "2.6.0", "Mine"});
    Wire wire(server.address());
    wire.play(
        "S: 220 somebody else\nC: EHLO me\nS: 250\nC: MAIL FROM:<>\nS: 250\nC: RCPT TO:<c@d>\nS: 251 2.1.5 "
        "Forwarded\n" +
        text + "S: 250 2.6.0 Mine");
    CHECK(server.wait_for(1).front().reply.text == "Mine");
}

TEST_CASE("MailServer: others' commands are not concerned, and a refusal for the first time only is one") {
    MailServer server;
    server.reply_to("RCPT TO:<bad@", {550, "5.1.1", "No such user"});
    server.reply_to("RCPT", {450, "4.2.0", "Come again"}, 2);
    server.reply_to("RCPT TO:<never@", {550, "5.1.1", "No"}, 0);
    Wire wire(server.address());
    wire.play(R"(
        S: 220
        C: EHLO me
        S: 250
        C: MAIL FROM:<a@b>
        S: 250
        C: RCPT TO:<bad@d>
        S: 550 5.1.1 No such user
        C: RCPT TO:<c@d>
        S: 450
        C: RCPT TO:<never@d>
        S: 450
        C: RCPT TO:<c@d>
        S: 250
        C: RCPT TO:<never@d>
        S: 250
        C: RCPT TO:<BAD@d>
        S: 550
        C: RCPT TO:<notbad@d>
        S: 250
    )");
}

TEST_CASE("MailServer: of two beginnings the longer one wins, of equals the last") {
    MailServer server;
    server.reply_to("RCPT TO:<bad@", {550, "5.1.1", "long"});
    server.reply_to("RCPT", {451, "4.3.0", "short"});
    CHECK(answer(server, {"EHLO me", "MAIL FROM:<a@b>", "RCPT TO:<bad@d>"}) == "550 5.1.1 long");
    CHECK(answer(server, {"EHLO me", "MAIL FROM:<a@b>", "RCPT TO:<c@d>"}) == "451 4.3.0 short");
    server.reply_to("RCPT", {452, "4.5.3", "last"});
    CHECK(answer(server, {"EHLO me", "MAIL FROM:<a@b>", "RCPT TO:<c@d>"}) == "452 4.5.3 last");
}

TEST_CASE("MailServer: who is refused EHLO may say HELO, and the other way round") {
    MailServer server;
    server.reply_to("EHLO", {502, "5.5.1", "No ESMTP"});
    CHECK(sent(server));
    CHECK(server.wait_for(1).front().protocol == "SMTP");
    server.be_polite();
    server.reply_to("HELO", {502, "5.5.1", "No SMTP"});
    CHECK(answer(server, {"HELO me"}) == "502 5.5.1 No SMTP");
    CHECK(sent(server));
}

TEST_CASE("MailServer: a beginning that can never come, and an answer that can't be one, are refused at once") {
    MailServer server;
    for (const char* beginning : {"QUIT", "RSET", "NOOP", "BDAT", "DATA x", "RCPT TO:bad@", "RCPT TO: <bad@",
                                  "RCPT FROM:", "MAIL TO:<", "EHLOme", "E", " RCPT", ". ", "RCP", "hello"}) {
        CAPTURE(beginning);
        CHECK_THROWS_AS(server.reply_to(beginning, {550, "5.0.0", "no"}), std::invalid_argument);
        CHECK_THROWS_AS(server.drop(beginning), std::invalid_argument);
        CHECK_THROWS_AS(server.delay(beginning, 1ms), std::invalid_argument);
    }
    for (const auto& row : std::vector<std::pair<const char*, int>>{{"", 250},
                                                                    {"", 354},
                                                                    {"", 600},
                                                                    {"EHLO", 354},
                                                                    {"MAIL", 199},
                                                                    {"RCPT", 354},
                                                                    {"DATA", 250},
                                                                    {"DATA", 354},
                                                                    {".", 354},
                                                                    {".", 0}}) {
        const auto* beginning = row.first;  // clang 14 captures no structured binding
        const auto code = row.second;
        CAPTURE(beginning);
        CAPTURE(code);
        CHECK_THROWS_AS(server.reply_to(beginning, {code, "", "no"}), std::invalid_argument);
    }
    Options options;
    options.lenient.missing_brackets = true;
    MailServer lenient(options);
    lenient.reply_to("RCPT TO:bad@", {550, "5.1.1", "No"});
    CHECK(answer(lenient, {"EHLO me", "MAIL FROM:a@b", "RCPT TO:bad@d"}) == "550 5.1.1 No");
    CHECK_THROWS_AS(MailServer(Options{.max_command_line = 512, .command_timeout = Options::seconds(-1)}),
                    std::invalid_argument);
    CHECK_THROWS_AS(MailServer(Options(), server.address()), std::system_error);
}

TEST_CASE("MailServer: a dropped connection ends without an answer, and the mail is nobody's") {
    for (const char* beginning : {"", "EHLO", "MAIL", "RCPT TO:<c@", "DATA", "."}) {
        CAPTURE(beginning);
        MailServer server;
        server.drop(beginning, 1);
        CHECK(!sent(server));
        CHECK(server.mails().empty());
        REQUIRE(server.refused().size() == (std::string(beginning) == "." ? 1 : 0));
        for (const auto& mail : server.refused()) CHECK(mail.reply.code == 0);
        CHECK(sent(server));
        CHECK(server.mails().size() == 1);
    }
    MailServer server;
    server.drop("RCPT");
    CHECK(answer(server, {"EHLO me", "MAIL FROM:<a@b>", "RCPT TO:<c@d>"}) == "");
}

TEST_CASE("MailServer: a delay holds the answer back, and no longer than the server lives") {
    for (const char* beginning : {"", "EHLO", "MAIL", "RCPT", "DATA", "."}) {
        CAPTURE(beginning);
        MailServer server;
        server.delay(beginning, 150ms, 1);
        const auto began = Clock::now();
        CHECK(sent(server));
        CHECK(Clock::now() - began >= 150ms);
    }
    const auto began = Clock::now();
    {
        MailServer server;
        server.delay("MAIL", std::chrono::hours(1));
        server.reply_to("MAIL", {550, "5.7.1", "No"});
        Wire wire(server.address());
        wire.play("S: 220\nC: EHLO me\nS: 250\nC: MAIL FROM:<a@b>");
        wire.expect_silence(50ms);
    }
    CHECK(Clock::now() - began < patience);
}

TEST_CASE("MailServer: by SMTP the worst verdict is everybody's") {
    MailServer server;
    std::atomic<int> asked = 0;
    server.verdict([&](const Test::Mail& mail, const Recipient& to) {
        ++asked;
        if (mail.text.find("spam") != mail.text.npos && to.local == "strict") return Reply{554, "5.7.1", "Spam"};
        return Reply{250, "2.6.0", "Fine"};
    });
    const std::vector<Recipient> both{Recipient("strict@d"), Recipient("mild@d")};
    CHECK(!sent(server, "a@b", both, "spam\r\n"));
    CHECK(asked == 2);
    CHECK(server.mails().empty());
    REQUIRE(server.refused().size() == 1);
    CHECK(server.refused()[0].reply.str() == "554 5.7.1 Spam");
    CHECK(server.refused()[0].to.size() == 2);
    CHECK(sent(server, "a@b", both, "ham\r\n"));
    REQUIRE(server.mails().size() == 1);
    CHECK(server.mails()[0].reply.str() == "250 2.6.0 Fine");
    CHECK(server.mails()[0].to.size() == 2);
}

TEST_CASE("MailServer: by LMTP each recipient has his verdict, and the mail is in both lists") {
    Options options;
    options.protocol = Protocol::lmtp;
    const Folder folder;
    MailServer server(options, "unix:" + folder / "lmtp");
    CHECK(server.address() == "unix:" + folder / "lmtp");
    server.verdict([](const Test::Mail&, const Recipient& to) {
        return to.local == "full" ? Reply{452, "4.2.2", "Full"} : Reply{250, "2.0.0", "For " + to.local};
    });
    Wire wire(server.address());
    wire.play(R"(
        S: 220
        C: LHLO me
        S: 250
        C: MAIL FROM:<a@b>
        S: 250
        C: RCPT TO:<one@d>
        S: 250
        C: RCPT TO:<full@d>
        S: 250
        C: RCPT TO:<two@d>
        S: 250
        C: DATA
        S: 354
        C: hello
        C: .
        S: 250 2.0.0 For one
        S: 452 4.2.2 Full
        S: 250 2.0.0 For two
        C: QUIT
        S: 221
    )");
    const auto mails = server.wait_for(1);
    REQUIRE(mails[0].to.size() == 2);
    CHECK(mails[0].to[1].str() == "two@d");
    CHECK(mails[0].protocol == "LMTP");
    const auto refused = server.refused();
    REQUIRE(refused.size() == 1);
    REQUIRE(refused[0].to.size() == 1);
    CHECK(refused[0].to[0].str() == "full@d");
    CHECK(refused[0].reply.str() == "452 4.2.2 Full");
    server.be_polite();
    server.reply_to("LHLO", {550, "5.7.1", "Not you"});
    CHECK(answer(server, {"LHLO me"}) == "550 5.7.1 Not you");
}

TEST_CASE("MailServer: a verdict may throw, and what is no verdict is a trouble") {
    MailServer server;
    server.verdict([](const Test::Mail&, const Recipient&) -> Reply { throw Reject({550, "5.7.1", "No"}); });
    CHECK(!sent(server));
    CHECK(server.refused().back().reply.str() == "550 5.7.1 No");
    CHECK(server.troubles().empty());
    server.verdict([](const Test::Mail&, const Recipient&) -> Reply { throw 5; });
    CHECK(!sent(server));
    server.verdict([](const Test::Mail&, const Recipient&) { return Reply{354, "", "go on"}; });
    CHECK(!sent(server));
    CHECK(server.refused().back().reply.str() == "451 4.3.0 Local error in processing");
    CHECK(server.troubles().size() == 2);
    server.verdict({});
    CHECK(sent(server));
    server.server().on<Event::Rcpt>([](Event::Rcpt& e) {
        if (e.recipient.local == "throw") throw std::runtime_error("in a listener of the test's own");
    });
    CHECK(!sent(server, "a@b", {Recipient("throw@d")}));
    CHECK(server.troubles().back() == "in a listener of the test's own");
}

TEST_CASE("MailServer: it is a right server: any segmentation, several mails, commands in disorder") {
    MailServer server;
    for (const auto& pace : {Test::Pace::at_once, Test::Pace::groups, Test::Pace::octets, Test::Pace::pieces}) {
        Wire wire(server.address());
        wire.play(envelope + text +
                      "S: 250\nC: MAIL FROM:<x@y>\nS: 250\nC: DATA\nS: 503\nC: RCPT TO:<c@d>\nS: 250\nC: BDAT 5\n"
                      "c: hello\nS: 250\nC: BDAT 0 LAST\nS: 250\nC: NONSENSE\nS: 500\nC: QUIT\nS: 221\nS: EOF",
                  pace);
    }
    const auto mails = server.wait_for(8);
    REQUIRE(mails.size() == 8);
    CHECK(mails[6].text == "hello\r\n");
    CHECK(mails[7].text == "hello");
}

TEST_CASE("MailServer: many send at once, and rules may change meanwhile") {
    MailServer server;
    std::atomic<int> delivered = 0;
    {
        std::vector<Background> senders;
        for (int i = 0; i < 16; ++i)
            senders.emplace_back([&] {
                for (int n = 0; n < 5; ++n) delivered += sent(server);
            });
        for (int i = 0; i < 20; ++i) {
            server.reply_to("MAIL", {450, "4.3.0", "later"}, 1);
            static_cast<void>(server.mails());
            server.be_polite();
        }
        for (auto& s : senders) s.join();
    }
    CHECK(server.wait_for(std::size_t(delivered)).size() == std::size_t(delivered));
    CHECK(delivered >= 60);
}

TEST_CASE("MailServer: it ends in time whatever its clients do") {
    const std::vector<std::string> states{"",
                                          "S: 220",
                                          "S: 220\nC: EHLO me\nS: 250",
                                          envelope,
                                          envelope + "c: DA",
                                          envelope + "C: DATA\nS: 354\nC: half a te",
                                          envelope + "C: BDAT 1000\nc: half"};
    std::vector<Wire> open;
    const auto began = Clock::now();
    {
        MailServer server;
        for (const auto& state : states) {
            open.emplace_back(server.address());
            open.back().play(state);
        }
    }
    CHECK(Clock::now() - began < patience);
    for (auto& wire : open)
        while (!wire.receive().empty()) {
        }
}

TEST_CASE("MailServer: none of its threads is left, also when nobody came") {
    for (int i = 0; i < 20; ++i) MailServer server;
    MailServer server;
    const auto address = server.address();
    Wire first(address);
    first.expect("220");
}
