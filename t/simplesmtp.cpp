// simplesmtp -- ten subjects of SimpleSMTP's own tests, played against our server with the same surface.
#include <Net/SMTP/Relay/Handlers.hpp>
#include <Net/SMTP/Server/Plugins/DNSBL.hpp>
#include <Net/SMTP/Server/Plugins/Domains.hpp>
#include <Net/SMTP/Server/Plugins/Headers.hpp>
#include <Net/SMTP/Server/Plugins/Origin.hpp>

#include "dialogue.hpp"

using namespace test;

namespace {

const std::string hello = "S: 220\nC: HELO me\nS: 250\n";

std::string transaction(const std::string& recipient = "c@d") {
    return "C: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<" + recipient + ">\nS: 250\nC: DATA\nS: 354\n";
}

// SimpleSMTP's `simple => 0`: every verb is answered here, in words of its own, and texts come by data_mode().
class OwnHandling : public Plugin {
public:
    using Start = std::function<void(Server::Client&)>;
    explicit OwnHandling(Start start) : start_(std::move(start)) {
        on<Event::Command>([this](Event::Command& e) { e.reply = answer(e.client, Command::parse(e.line)); });
        on<Event::Text>([this](Event::Text& e) {
            texts.add(e.reply.str() + ", " + std::to_string(e.client.MSG.size()) +
                      " octets: " + std::string(e.client.MSG.view()));
            e.reply = {250, "", "my own receipt"};
        });
    }
    Notes verbs, texts;

private:
    Reply answer(Server::Client& client, const Command& command) {
        verbs.add(std::string(command.name));
        switch (command.verb) {
            case Verb::HELO: return {250, "", "my own hello"};
            case Verb::NOOP: return {250, "", "my own nothing"};
            case Verb::EXPN: return {502, "", "my own refusal"};
            case Verb::VRFY: return {252, "", "my own doubt"};
            case Verb::MAIL: return {250, "", "my own " + std::string(command.argument)};
            case Verb::RCPT: return {250, "", "my own " + std::string(command.argument)};
            case Verb::DATA: start_(client); return {354, "", "my own waiting"};
            case Verb::RSET: return {250, "", "my own oblivion"};
            default: return {0, "", ""};
        }
    }
    const Start start_;
};

Options own_handling() {
    auto o = brief();
    o.simple = false;
    return o;
}

const std::string own_dialogue = R"(
    S: 220
    C: HELO me
    S: 250 my own hello
    C: NOOP
    S: 250 my own nothing
    C: EXPN all
    S: 502 my own refusal
    C: VRFY joe
    S: 252 my own doubt
    C: MAIL FROM:<a@b>
    S: 250 my own FROM:<a@b>
    C: RCPT TO:<c@d>
    S: 250 my own TO:<c@d>
    C: DATA
    S: 354 my own waiting
)";
const std::string own_ending = R"(
    S: 250 my own receipt
    C: RSET
    S: 250 my own oblivion
    C: TURN
    S: 502
    C: QUIT
    S: 221
    S: EOF
)";
const Names own_verbs{"HELO", "NOOP", "EXPN", "VRFY", "MAIL", "RCPT", "DATA", "RSET", "TURN", "QUIT"};

}  // namespace

TEST_CASE("any free port, the usual commands, and an event for the beginning and the end (seed: 10_basic)") {
    auto notes = std::make_shared<Notes>();
    auto port = std::make_shared<int>(0);
    dialogue(
        hello + R"(
        C: NOOP
        S: 250
        C: EXPN all
        S: 502
        C: VRFY joe
        S: 252
        C: MAIL FROM:<a@b>
        S: 250
        C: RCPT TO:<c@d>
        S: 250
        C: RSET
        S: 250
        C: RCPT TO:<c@d>
        S: 503
        C: QUIT
        S: 221
        S: EOF
    )",
        listening([=](Server& s) {
            *port = s.port();
            s.on<Event::Connect>([=](Event::Connect& e) {
                notes->add("connected " + e.client.peer().host + " to " + e.client.local().str());
                CHECK(e.client.peer().port > 0);
            });
            s.on<Event::Disconnect>([=](Event::Disconnect& e) { notes->add("ended " + e.last.str().substr(0, 3)); });
        }));
    CHECK(*port > 0);
    CHECK(notes->all() == Names{"connected 127.0.0.1 to 127.0.0.1:" + std::to_string(*port), "ended 221"});
}

TEST_CASE("the block list is asked before the greeting, and an event tells what it said (seed: 10_dnsbl)") {
    struct Row {
        const char* record;  // of the client's address; null: there is none, "": the DNS fails
        const char* says;
    };
    for (const auto& row :
         {Row{nullptr, "220 zen.test 1.0.0.127.zen.test  no"}, Row{"", "220 zen.test 1.0.0.127.zen.test  error"},
          Row{"A 127.255.255.254", "220 zen.test 1.0.0.127.zen.test 127.255.255.254 error"}}) {
        CAPTURE(row.says);
        auto dns = std::make_shared<Test::FakeResolver>();
        if (row.record && *row.record) dns->add("1.0.0.127.zen.test", row.record);
        else if (row.record) dns->fail("1.0.0.127.zen.test");
        auto notes = std::make_shared<Notes>();
        auto list = std::make_shared<DNSBL>(DNSBL::Options{.resolver = dns, .zones = {{.name = "zen.test"}}});
        auto setup = listening([=](Server& s) {
            s.pipeline().add("dnsbl", list);
            s.on<DNSBL::Result>([=](DNSBL::Result& e) {
                const auto& a = e.answers.at(0);
                notes->add(std::to_string(e.reply.code) + ' ' + a.zone + ' ' + a.question + ' ' +
                           (a.codes.empty() ? "" : a.codes[0]) + ' ' + (a.error.empty() ? "no" : "error"));
            });
        });
        const auto played = dialogue(hello + transaction() + "C: x\nC: .\nS: 250\nC: QUIT\nS: 221\nS: EOF", setup);
        CHECK(played.mails.size() == 1);
        CHECK(notes->all() == Names{row.says});
    }
}

TEST_CASE("who says nothing for the time of a command is let go, and an event tells it (seed: 20_timeout)") {
    auto notes = std::make_shared<Notes>();
    auto options = brief();
    options.command_timeout = 1s;
    dialogue(
        "S: 220\nC: HELO me\nS: 250\nS: 421 4.4.2\nS: EOF",
        listening([=](Server& s) { s.on<Event::Disconnect>([=](Event::Disconnect& e) { notes->add(e.last.status); }); },
                  options));
    CHECK(notes->all() == Names{"4.4.2"});
}

TEST_CASE("the program answers every verb, and has the text from an event (seed: 30_data)") {
    auto own = std::make_shared<OwnHandling>([](Server::Client& c) { c.data_mode(); });
    const auto played = dialogue(own_dialogue + "C: Subject: x\nC:\nC: one\nC: ..\nC: two\nC: .\n" + own_ending,
                                 with_plugin(own, own_handling()));
    CHECK(own->verbs.all() == own_verbs);
    CHECK(own->texts.all() == Names{"250 2.0.0 OK, 27 octets: Subject: x\r\n\r\none\r\n.\r\ntwo\r\n"});
    CHECK(played.mails.empty());  // it was the program's own
    CHECK(played.troubles.empty());
}

TEST_CASE("the text goes to the program's file, and the event comes however late the dot is (seed: 40_data_fh)") {
    for (const bool sync : {false, true}) {
        Folder folder;
        const auto path = folder / "text";
        const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "wxe"), std::fclose);
        auto own = std::make_shared<OwnHandling>(
            [fd = fileno(file.get()), sync](Server::Client& c) { c.data_mode(fd, sync); });
        Talk talk(with_plugin(own, own_handling()));
        talk.play(own_dialogue + "C: Subject: x\nC:\nC: ..one");
        const std::string text = "Subject: x\r\n\r\n.one\r\n";
        // All of the text has been written before the line with the dot is sent: nothing is left to write for it.
        CHECK(eventually([&] { return content_of(path) == text; }));
        CHECK(own->texts.all().empty());
        talk.play("C: .\n" + own_ending);
        CHECK(talk.end().empty());
        CHECK(content_of(path) == text);
        CHECK(own->texts.all() == Names{"250 2.0.0 OK, 20 octets: "});
    }
}

TEST_CASE("a handler by pattern has the mail in the loop's place, with its id and one Message-ID (seed: 50_handler)") {
    struct Seen {
        std::string id, text, from;
        std::vector<Recipient> to;
    };
    auto seen = std::make_shared<std::vector<Seen>>();
    auto handlers = std::make_shared<Handlers>();
    handlers->set({{R"((?i)lists\.test$)", [seen](Server::Client& c, const std::vector<Recipient>& to) -> Reply {
                        seen->push_back({c.MSG.id(), std::string(c.MSG.view()), c.FROM.str(), to});
                        return {250, "2.6.0", "handled"};
                    }}});
    auto options = brief();
    options.complete = true;
    const auto played = dialogue(
        hello + transaction("all@Lists.TEST") + "C: Subject: x\nC:\nC: y\nC: .\nS: 250 2.6.0 handled\n" +
            transaction("joe@elsewhere.test") + "C: Subject: z\nC:\nC: y\nC: .\nS: 250\nC: QUIT\nS: 221\nS: EOF",
        with_plugin(handlers, options));
    REQUIRE(seen->size() == 1);
    const auto& mail = seen->front();
    CHECK(!mail.id.empty());
    CHECK(mail.from == "a@b");
    REQUIRE(mail.to.size() == 1);
    CHECK(mail.to[0].str() == "all@Lists.TEST");
    const Message message(mail.text);
    REQUIRE(message.headers("Message-ID").size() == 1);
    const auto id = message.header("Message-ID").value();
    CHECK(id.front() == '<');
    CHECK(id.ends_with("@mx.test>"));
    REQUIRE(played.mails.size() == 1);
    CHECK(played.mails[0].to.at(0).str() == "joe@elsewhere.test");
}

TEST_CASE("mail is taken for our domains only; of two @ the last one decides if so switched (seed: 55_domains)") {
    for (const bool double_at : {true, false}) {
        auto domains = std::make_shared<Domains>(Domains::Options{.domains = {"ours.test"}, .double_at = double_at});
        const auto played = dialogue(hello + R"(
            C: MAIL FROM:<a@b>
            S: 250
            C: RCPT TO:<joe@theirs.test>
            S: 550 5.7.1
            C: RCPT TO:<joe@OURS.test>
            S: 250
            C: RCPT TO:<joe@theirs.test@ours.test>
            )" + (double_at ? "S: 250" : "S: 501") +
                                         R"(
            C: RCPT TO:<joe@ours.test@theirs.test>
            )" + (double_at ? "S: 550" : "S: 501") +
                                         R"(
            C: DATA
            S: 354
            C: x
            C: .
            S: 250
            C: QUIT
            S: 221
            S: EOF
        )",
                                     with_plugin(domains));
        REQUIRE(played.mails.size() == 1);
        CHECK(played.mails[0].to.size() == (double_at ? 2 : 1));
    }
}

TEST_CASE("a Message-ID that is there is not doubled, and the subject can be asked for (seed: 60_messageid)") {
    for (const bool plugin : {false, true}) {  // Options::complete is the other way
        auto subjects = std::make_shared<Notes>();
        auto options = brief();
        options.complete = !plugin;
        const auto listeners = [=](Server& s) {
            if (plugin) s.pipeline().add("headers", std::make_shared<Headers>());
            s.on<Event::Arrived>(
                [=](Event::Arrived& e) { subjects->add(e.client.MSG.header("Subject").value_or("none")); });
        };
        const std::string with_id = "C: Subject: of two\nC: message-id: <own@b>\nC:\nC: y\nC: .\nS: 250\n",
                          without = "C: Subject: of one\nC:\nC: Message-ID: <in.the.body@b>\nC: .\nS: 250\n";
        const auto played =
            dialogue(hello + transaction() + with_id + transaction() + without + "C: QUIT\nS: 221\nS: EOF",
                     listening(listeners, options));
        CHECK(subjects->all() == Names{"of two", "of one"});
        REQUIRE(played.mails.size() == 2);
        CHECK(Message(played.mails[0].text).headers("Message-ID") == Names{"<own@b>"});
        // In the body it is no field, so the second mail is given one.
        CHECK(Message(played.mails[1].text).headers("Message-ID") == Names{'<' + played.mails[1].id + "@mx.test>"});
    }
}

TEST_CASE("no Received field is left, ours and others', and all else is as it was (seed: 61_origin)") {
    const std::string sent = R"(
        C: Received: from inside by outside;
        C:  Sun, 1 Feb 2026 00:00:00 +0000
        C: Subject: x
        C: RECEIVED: again
        C: X-Received: stays
        C:
        C: Received: in the text
        C: .
        S: 250
    )";
    for (const bool strip : {true, false}) {
        Test::MailServer next;
        auto setup = listening([strip](Server& s) {
            if (strip) s.pipeline().add("origin", std::make_shared<Origin>());
        });
        setup.handler = [to = next.address()](Server::Client& c) { Relay(c.FROM, c.TO, c.MSG, {.host = to}); };
        dialogue(hello + transaction() + sent + "C: QUIT\nS: 221\nS: EOF", setup);
        const auto arrived = next.wait_for(1).at(0).text;
        const std::string rest = "Subject: x\r\nX-Received: stays\r\n\r\nReceived: in the text\r\n";
        if (strip) CHECK(arrived == rest);
        CHECK(Message(arrived).headers("Received").size() == (strip ? 0 : 3));  // one of ours
    }
}

TEST_CASE("a line that begins with a dot arrives with it, whatever else is in front (seed: 90_transparent)") {
    const auto played = dialogue(hello + transaction() +
                                 "C: ..hidden\nC: ..\nC: . \nC: ...\nC: x.\nC: .\nS: 250\nC: QUIT\nS: 221\nS: EOF");
    REQUIRE(played.mails.size() == 1);
    CHECK(played.mails[0].text == ".hidden\r\n.\r\n \r\n..\r\nx.\r\n");
}
