// bounce -- delivery status notifications: who is told what, and in which form.
#include <cstdlib>
#include <fstream>

#include "notice.hpp"

using namespace test;
using namespace std::string_literals;
using Net::SMTP::Notify;

namespace {

constexpr QueueTime arrived{std::chrono::seconds(1762066800)};  // Sun, 2 Nov 2025 07:00:00 +0000
constexpr QueueTime now = arrived + std::chrono::hours(2);

const NoticeFrom us{.hostname = "mx.example.net"};

QueueTask mail_from(const std::string& sender) {
    QueueTask mail;
    mail.id = "QUEUEID";
    mail.from = Sender(sender);
    mail.head = "Received: from a (b [192.0.2.1])\r\n\tby mx.example.net; Sun, 2 Nov 2025 07:00:00 +0000\r\n";
    mail.arrived = arrived;
    return mail;
}

const Message text("From: a@b.example\r\nSubject: Hello\r\nMessage-ID: <1@b.example>\r\n\r\nThe text.\r\n");

DeliveryStatus failed(const std::string& whom, Reply reply = {550, "5.1.1", "No such user"}) {
    DeliveryStatus s;
    s.recipient = Recipient(whom);
    s.reply = std::move(reply);
    s.host = "mx.d.example[192.0.2.7]:25";
    s.last_attempt = now;
    return s;
}

DeliveryStatus with(DeliveryStatus s, DeliveryAction action) {
    s.action = action;
    return s;
}

ParsedNotice notice(const QueueTask& mail, const Message& message, std::vector<DeliveryStatus> about) {
    const auto made = delivery_notice(us, mail, message, about, now);
    REQUIRE(made);
    return parsed(*made);
}

ParsedNotice about_one(const DeliveryStatus& s) { return notice(mail_from("a@b.example"), text, {s}); }

// The value in the status of the only recipient.
std::string said(const DeliveryStatus& s, const char* name) {
    const auto parts = about_one(s);
    REQUIRE(parts.recipients.size() == 1);
    return value(parts.recipients[0], name);
}

std::string replaced(std::string in, const std::string& what, const std::string& by) {
    for (auto at = in.find(what); at != in.npos; at = in.find(what, at + by.size())) in.replace(at, what.size(), by);
    return in;
}

Notify notify(const std::string& words) {
    Notify n;
    n.never = words.find("NEVER") != words.npos;
    n.success = words.find("SUCCESS") != words.npos;
    n.failure = words.find("FAILURE") != words.npos;
    n.delay = words.find("DELAY") != words.npos;
    return n;
}

}  // namespace

TEST_CASE("a failure, octet for octet") {
    auto mail = mail_from("a@b.example");
    mail.from.envid = "QQ 314159";
    auto s = failed("c@d.example");
    s.recipient.orcpt = OriginalRecipient{"rfc822", "list@d.example"};
    const auto made = delivery_notice(us, mail, text, {{s}}, now);
    REQUIRE(made);
    CHECK(made->from.null());
    CHECK_FALSE(made->from.unset());
    CHECK(made->from.body == BodyType::seven_bit);
    CHECK_FALSE(made->from.smtputf8);
    REQUIRE(made->to.size() == 1);
    CHECK(made->to[0].str() == "a@b.example");
    CHECK(made->head == "");
    CHECK(made->due == now);
    CHECK(made->arrived == now);
    CHECK_FALSE(made->held);
    CHECK(replaced(std::string(made->text.view()), made->id, "ID") ==
          replaced(R"(From: Mail Delivery System <MAILER-DAEMON@mx.example.net>
To: a@b.example
Subject: Your mail could not be delivered
Date: Sun, 2 Nov 2025 09:00:00 +0000
Message-ID: <ID@mx.example.net>
In-Reply-To: <1@b.example>
References: <1@b.example>
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status;
	boundary="=_ID_0"

--=_ID_0
Content-Type: text/plain; charset=us-ascii

This is the mail system of mx.example.net.

Your mail of Sun, 2 Nov 2025 07:00:00 +0000 could not be delivered to the
recipients below. It will not be tried again. If they still are to have it,
mend what is said of each, or ask whoever is responsible there, and send it
anew.

  <c@d.example>, for <list@d.example>
      mx.d.example[192.0.2.7]:25: 550 5.1.1 No such user

The header of your mail is returned with this. Its number here was QUEUEID.

--=_ID_0
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example.net
Original-Envelope-Id: QQ 314159
Arrival-Date: Sun, 2 Nov 2025 07:00:00 +0000

Original-Recipient: rfc822; list@d.example
Final-Recipient: rfc822; c@d.example
Action: failed
Status: 5.1.1
Remote-MTA: dns; mx.d.example
Diagnostic-Code: smtp; 550 5.1.1 No such user
Last-Attempt-Date: Sun, 2 Nov 2025 09:00:00 +0000

--=_ID_0
Content-Type: text/rfc822-headers

Received: from a (b [192.0.2.1])
	by mx.example.net; Sun, 2 Nov 2025 07:00:00 +0000
From: a@b.example
Subject: Hello
Message-ID: <1@b.example>

--=_ID_0--
)",
                   "\n", "\r\n"));
}

TEST_CASE("a delay says how long it will be tried, and that nothing need be done") {
    auto s = with(failed("c@d.example", {451, "4.4.1", "connect to mx.d.example: timed out"}), DeliveryAction::delayed);
    s.retry_until = arrived + std::chrono::hours(96);
    const auto parts = about_one(s);
    CHECK(value(parts.fields, "Subject") == "Your mail is delayed");
    const auto words = replaced(parts.text(), "\r\n", " ");
    CHECK(words.find("will be tried again until Thu, 6 Nov 2025 07:00:00 +0000.") != words.npos);
    CHECK(words.find("You need do nothing now") != words.npos);
    CHECK(words.find("If it fails for good you will be told.") != words.npos);
    REQUIRE(parts.recipients.size() == 1);
    CHECK(value(parts.recipients[0], "Action") == "delayed");
    CHECK(value(parts.recipients[0], "Status") == "4.4.1");
    CHECK(value(parts.recipients[0], "Will-Retry-Until") == "Thu, 6 Nov 2025 07:00:00 +0000");
    s.retry_until.reset();
    s.recipient.notify.delay = true;  // and no failures
    CHECK(said(s, "Will-Retry-Until") == "");
    CHECK(about_one(s).text().find("you will be told") == std::string::npos);
}

TEST_CASE("of several fates the subject tells the worst, and each has a paragraph and its recipients") {
    auto mail = mail_from("a@b.example");
    std::vector<DeliveryStatus> all;
    for (const auto action : {DeliveryAction::delivered, DeliveryAction::relayed, DeliveryAction::delayed,
                              DeliveryAction::failed, DeliveryAction::failed}) {
        all.push_back(with(failed("c" + std::to_string(all.size()) + "@d.example", {250, "2.0.0", "ok"}), action));
        all.back().recipient.notify = notify("SUCCESS,FAILURE,DELAY");
    }
    all[2].reply = {450, "4.2.1", "later"};
    all[3].reply = {550, "5.1.1", "nobody"};
    all[4].reply = {452, "4.2.2", "full"};
    const auto parts = notice(mail, text, all);
    CHECK(value(parts.fields, "Subject") == "Your mail could not be delivered");
    const auto words = replaced(parts.text(), "\r\n", " ");
    std::size_t at = 0;
    for (const char* next : {"It will not be tried again", "<c3@", "given up", "<c4@", "delivered yet", "<c2@",
                             "passed on", "<c1@", "was delivered", "<c0@", "The header of your mail"}) {
        CAPTURE(next);
        at = words.find(next, at);
        CHECK(at != words.npos);
    }
    const std::vector<std::pair<std::string, std::string>> expected{
        {"delivered", "2.0.0"}, {"relayed", "2.0.0"}, {"delayed", "4.2.1"}, {"failed", "5.1.1"}, {"failed", "4.2.2"}};
    REQUIRE(parts.recipients.size() == expected.size());
    for (std::size_t i = 0; i < expected.size(); ++i) {
        CHECK(value(parts.recipients[i], "Action") == expected[i].first);
        CHECK(value(parts.recipients[i], "Status") == expected[i].second);
    }
    const std::pair<DeliveryAction, const char*> subjects[] = {{DeliveryAction::relayed, "Your mail was passed on"},
                                                               {DeliveryAction::delivered, "Your mail was delivered"}};
    for (const auto& [action, subject] : subjects) {
        auto s = with(all[0], action);
        CHECK(value(about_one(s).fields, "Subject") == subject);
    }
}

TEST_CASE("who is told follows NOTIFY, and without it failures and delays are") {
    const Sender from("a@b.example");
    struct Row {
        const char* notify;
        bool failed, delayed, delivered, relayed;
    };
    for (const auto& row :
         {Row{"", true, true, false, false}, Row{"NEVER", false, false, false, false},
          Row{"SUCCESS", false, false, true, true}, Row{"FAILURE", true, false, false, false},
          Row{"DELAY", false, true, false, false}, Row{"SUCCESS,FAILURE", true, false, true, true},
          Row{"FAILURE,DELAY", true, true, false, false}, Row{"SUCCESS,DELAY", false, true, true, true},
          Row{"SUCCESS,FAILURE,DELAY", true, true, true, true}}) {
        CAPTURE(row.notify);
        Recipient to("c@d.example");
        to.notify = notify(row.notify);
        CHECK(wants_notice(from, to, DeliveryAction::failed) == row.failed);
        CHECK(wants_notice(from, to, DeliveryAction::delayed) == row.delayed);
        CHECK(wants_notice(from, to, DeliveryAction::delivered) == row.delivered);
        CHECK(wants_notice(from, to, DeliveryAction::relayed) == row.relayed);
        for (const auto action :
             {DeliveryAction::failed, DeliveryAction::delayed, DeliveryAction::delivered, DeliveryAction::relayed}) {
            CHECK_FALSE(wants_notice(Sender(""), to, action));
            CHECK_FALSE(wants_notice(Sender(), to, action));
        }
    }
}

TEST_CASE("only what is wanted is told, and nothing makes no notice") {
    auto quiet = failed("quiet@d.example"), loud = failed("loud@d.example");
    quiet.recipient.notify.never = true;
    const auto parts = notice(mail_from("a@b.example"), text, {quiet, loud});
    CHECK(parts.recipients.size() == 1);
    CHECK(parts.text().find("quiet@") == std::string::npos);
    const std::vector<DeliveryStatus> both{quiet, with(loud, DeliveryAction::delivered)};
    CHECK_FALSE(delivery_notice(us, mail_from("a@b.example"), text, both, now));
    CHECK_FALSE(delivery_notice(us, mail_from("a@b.example"), text, {}, now));
    CHECK_FALSE(delivery_notice(us, mail_from(""), text, {{loud}}, now));
}

TEST_CASE("a sender that is no mailbox is told nothing") {
    for (const auto& bad : {"a\r\nBcc: x@y"s, "a b"s, "a>"s, "\"a\r\nb\""s, "a\0"s}) {
        CAPTURE(escaped(bad));
        auto mail = mail_from("a@b.example");
        mail.from.local = bad;
        CHECK_FALSE(delivery_notice(us, mail, text, {{failed("c@d.example")}}, now));
    }
}

TEST_CASE("a hostname that is no word is refused") {
    for (const auto& bad : {""s, "a b"s, "a\r\n"s, "m\xc3\xbc.example"s, "a>"s, std::string(256, 'a')}) {
        CAPTURE(escaped(bad));
        CHECK_THROWS_AS(delivery_notice({.hostname = bad}, mail_from("a@b"), text, {{failed("c@d")}}, now),
                        std::invalid_argument);
    }
}

TEST_CASE("the status is the reply's own where it fits, else its class alone") {
    struct Row {
        DeliveryAction action;
        Reply reply;
        const char* status;
    };
    using A = DeliveryAction;
    for (const auto& row : {
             Row{A::failed, {550, "5.1.1", "x"}, "5.1.1"},
             Row{A::failed, {550, "", "x"}, "5.0.0"},
             Row{A::failed, {451, "4.4.1", "x"}, "4.4.1"},
             Row{A::failed, {421, "", "x"}, "4.0.0"},
             Row{A::failed, {250, "2.0.0", "x"}, "5.0.0"},
             Row{A::failed, {550, "4.1.1", "x"}, "5.0.0"},
             Row{A::failed, {0, "", ""}, "5.0.0"},
             Row{A::failed, {550, "5.1", "x"}, "5.0.0"},
             Row{A::failed, {550, "5.1.1\r\nX: y", "x"}, "5.0.0"},
             Row{A::delayed, {450, "4.2.1", "x"}, "4.2.1"},
             Row{A::delayed, {530, "5.7.0", "x"}, "4.7.0"},
             Row{A::delayed, {0, "", ""}, "4.0.0"},
             Row{A::delivered, {250, "2.1.5", "x"}, "2.1.5"},
             Row{A::delivered, {250, "", "x"}, "2.0.0"},
             Row{A::relayed, {250, "2.6.0", "x"}, "2.6.0"},
         }) {
        auto s = with(failed("c@d.example", row.reply), row.action);
        s.recipient.notify = notify("SUCCESS,FAILURE,DELAY");
        CAPTURE(row.reply.str());
        CHECK(said(s, "Status") == row.status);
    }
}

TEST_CASE("who has spoken is the Remote-MTA, where that is a host, and its words are of type smtp") {
    const std::pair<std::string, const char*> rows[] = {
        {"mx.d.example[192.0.2.7]:25", "dns; mx.d.example"},
        {"mx.d.example[2001:db8::1]:25", "dns; mx.d.example"},
        {"192.0.2.7:25", "dns; [192.0.2.7]"},
        {"[2001:db8::1]:25", "dns; [IPv6:2001:db8::1]"},
        {"smart.example:587", "dns; smart.example"},
        {"unix:/run/lmtp", ""},
        {"maildir:/var/mail/me", ""},
        {"told", ""},
        {":25", ""},
        {"a b:25", ""},
        {"", ""},
    };
    for (const auto& row : rows) {
        const auto& host = row.first;
        const auto* remote = row.second;
        CAPTURE(host);
        auto s = failed("c@d.example");
        s.host = host;
        CHECK(said(s, "Remote-MTA") == remote);
        CHECK(said(s, "Diagnostic-Code") == (!host.empty() ? "smtp; "s : "x-net-smtp; "s) + "550 5.1.1 No such user");
    }
    CHECK(said(failed("c@d.example", {0, "", ""}), "Diagnostic-Code") == "");
    auto s = failed("c@d.example");
    s.last_attempt = {};
    CHECK(said(s, "Last-Attempt-Date") == "");
}

TEST_CASE("what a host says in lines is one field, folded, and cut where it is long") {
    std::string lines;
    for (int i = 0; i < 40; ++i) lines += "line " + std::to_string(i) + " of many;\n";
    const auto many = said(failed("c@d.example", {550, "5.7.1", lines}), "Diagnostic-Code");
    CHECK(many.starts_with("smtp; 550 5.7.1 line 0 of many; line 1 of many; line 2 of many;"));
    const auto word = said(failed("c@d.example", {550, "5.7.1", std::string(4000, 'x')}), "Diagnostic-Code");
    CHECK(word.ends_with("xxx..."));
    CHECK(word.size() < 998);
    CHECK(said(failed("c@d.example", {550, "5.7.1", " \t a  \r\n\r\n b\x1b[2Jc\0d "s}), "Diagnostic-Code") ==
          "smtp; 550 5.7.1 a b [2Jc d");
}

TEST_CASE("no word of a stranger becomes a field, a line or a part of ours") {
    const auto evil = "x\r\nAction: delivered\r\n\r\n--=_QUEUEID_0--\r\nX-Evil: y"s;
    auto mail = mail_from("a@b.example");
    mail.from.envid = evil;
    mail.id = evil;
    auto s = failed("c@d.example", {550, evil, evil});
    s.host = evil;
    s.recipient.local = evil;
    s.recipient.orcpt = OriginalRecipient{"rfc822", evil};
    const auto parts = notice(mail, text, {s});
    CHECK(parts.parts.size() == 3);
    REQUIRE(parts.recipients.size() == 1);
    CHECK(value(parts.recipients[0], "Action") == "failed");
    CHECK(value(parts.recipients[0], "X-Evil") == "");
    CHECK(value(parts.message, "X-Evil") == "");
    s.recipient.orcpt = OriginalRecipient{evil, "x"};
    CHECK(said(s, "Original-Recipient") == "");
    s.recipient.local.clear();
    s.recipient.domain.clear();
    CHECK(said(s, "Final-Recipient") == "rfc822; ?");
}

TEST_CASE("a boundary is none that stands in what is returned") {
    // The second of two notices about one text quotes the first; a boundary that is in it is passed over.
    auto mail = mail_from("a@b.example");
    mail.from.ret = Return::full;
    const auto first = delivery_notice(us, mail, text, {{failed("c@d.example")}}, now);
    REQUIRE(first);
    const auto parts = notice(mail, first->text, {failed("c@d.example")});
    REQUIRE(parts.parts.size() == 3);
    CHECK(parts.parts[2].body == mail.head + std::string(first->text.view()));
}

TEST_CASE("a line of a mail that a notice answers is only quoted where it is a plain Message-ID") {
    for (const auto* id : {"<1@b.example>", "<a.b-c@[192.0.2.1]>"}) {
        const auto parts = notice(mail_from("a@b"), Message("Message-ID: "s + id + "\r\n\r\nx\r\n"), {failed("c@d")});
        CHECK(value(parts.fields, "In-Reply-To") == id);
        CHECK(value(parts.fields, "References") == id);
    }
    for (const auto& id : {""s, "1@b"s, "<1@b> <2@b>"s, "<>"s, "<@>x"s, "<1@b"s, "<1 @b>"s, "<\xc3\xbc@b>"s,
                           "<1@b>\r\n <3@b>"s, "<" + std::string(900, 'x') + "@b>"}) {
        CAPTURE(escaped(id));
        const auto parts = notice(mail_from("a@b"), Message("Message-ID: " + id + "\r\n\r\nx\r\n"), {failed("c@d")});
        CHECK(value(parts.fields, "In-Reply-To") == "");
    }
}

TEST_CASE("RET=FULL returns all of it for a failure, octet for octet, and only the header otherwise") {
    auto mail = mail_from("a@b.example");
    const auto whole = mail.head + std::string(text.view());
    const auto header = mail.head + "From: a@b.example\r\nSubject: Hello\r\nMessage-ID: <1@b.example>\r\n";
    for (const auto ret : {Return::unsaid, Return::headers, Return::full})
        for (const auto action : {DeliveryAction::failed, DeliveryAction::delayed, DeliveryAction::delivered}) {
            mail.from.ret = ret;
            auto s = with(failed("c@d.example"), action);
            s.recipient.notify = notify("SUCCESS,FAILURE,DELAY");
            const auto parts = notice(mail, text, {s});
            REQUIRE(parts.parts.size() == 3);
            const bool full = ret == Return::full && action == DeliveryAction::failed;
            CHECK(parts.parts[2].type == (full ? "message/rfc822" : "text/rfc822-headers"));
            CHECK(parts.parts[2].body == (full ? whole : header));
        }
    // A last line without an end stays without.
    mail.from.ret = Return::full;
    const Message open("Subject: x\r\n\r\nno end");
    CHECK(notice(mail, open, {failed("c@d.example")}).parts.at(2).body == mail.head + "Subject: x\r\n\r\nno end");
}

TEST_CASE("more than most_returned, at it and below") {
    auto mail = mail_from("a@b.example");
    mail.from.ret = Return::full;
    const std::vector<DeliveryStatus> about{failed("c@d.example")};
    const auto size = mail.head.size() + text.size();
    for (const auto& [limit, full] : {std::pair{size - 1, false}, {size, true}, {size + 1, true}}) {
        const auto made = delivery_notice({"mx.example.net", limit}, mail, text, about, now);
        REQUIRE(made);
        const auto parts = parsed(*made);
        CHECK(parts.parts.at(2).type == (full ? "message/rfc822" : "text/rfc822-headers"));
        CHECK((parts.text().find("too long to be returned whole") != std::string::npos) == !full);
    }
}

TEST_CASE("a whole text with 8-bit octets says so, wherever somebody has to know it") {
    auto mail = mail_from("a@b.example");
    mail.from.ret = Return::full;
    const Message eight(
        "Subject: x\r\n\r\nGr\xc3\xbc\xc3\x9f"
        "e \xff\r\n");
    const auto made = delivery_notice(us, mail, eight, {{failed("c@d.example")}}, now);
    REQUIRE(made);
    CHECK(made->from.body == BodyType::eight_bit_mime);
    CHECK_FALSE(made->from.smtputf8);
    const auto parts = parsed(*made);
    CHECK(parts.parts.at(2).coding == "8bit");
    CHECK(parts.parts.at(2).type == "message/rfc822");
    CHECK(parts.parts.at(2).body == mail.head + std::string(eight.view()));
    CHECK(value(parts.fields, "Content-Transfer-Encoding") == "8bit");
}

TEST_CASE("what could not be sent on is not returned whole, and its header is cleaned") {
    auto mail = mail_from("a@b.example");
    mail.from.ret = Return::full;
    for (const auto& body :
         {"a\nb\r\n"s, "a\rb\r\n"s, "a\r\r\nb\r\n"s, "a\0b\r\n"s, std::string(999, 'x') + "\r\n", "x\r"s, "x\n"s}) {
        CAPTURE(escaped(body.substr(0, 20)));
        const auto parts = notice(mail, Message("Subject: x\r\n\r\n" + body), {failed("c@d.example")});
        CHECK(parts.parts.at(2).type == "text/rfc822-headers");
        CHECK(parts.parts[2].decoded() == mail.head + "Subject: x\r\n");
        CHECK(parts.text().find("can't be returned") != std::string::npos);
    }
    const Message longest("Subject: x\r\n\r\n" + std::string(998, 'x') + "\r\n");
    CHECK(notice(mail, longest, {failed("c@d.example")}).parts.at(2).type == "message/rfc822");
    mail.from.body = BodyType::binary_mime;
    CHECK(notice(mail, text, {failed("c@d.example")}).parts.at(2).type == "text/rfc822-headers");
}

TEST_CASE("a header section is returned to its end, and nothing behind it") {
    struct Row {
        std::string text, header;
    };
    const std::string x(2000, 'x');
    for (const auto& row : {
             Row{"A: b\r\nC: d\r\n\te\r\n\r\nF: g\r\n", "A: b\r\nC: d\r\n\te\r\n"},
             Row{"A: b\nC: d\n\nF: g\n", "A: b\r\nC: d\r\n"},
             Row{"A: b\r\nC: d", "A: b\r\nC: d\r\n"},
             Row{"A: b\r\nno field\r\nC: d\r\n\r\n", "A: b\r\n"},
             Row{"A: b\r\n .\r\n\r\n", "A: b\r\n .\r\n"},
             Row{"A: b\rc\0d\r\n\r\n"s, "A: b c?d\r\n"},
             Row{"A: " + x + "\r\n\r\n", "A: " + x + "\r\n"},
             Row{"A: \xff\r\n\r\n", "A: \xff\r\n"},
             Row{"A: =\t \r\n" + x + "\r\n", "A: =\t \r\n"},
             Row{"A: \xc3\xbc=\r\n \t \xc3\xbc \r\n\r\n", "A: \xc3\xbc=\r\n \t \xc3\xbc \r\n"},
         }) {
        CAPTURE(escaped(row.text.substr(0, 40)));
        auto mail = mail_from("a@b.example");
        mail.head.clear();
        const auto parts = notice(mail, Message(row.text), {failed("c@d.example")});
        REQUIRE(parts.parts.size() == 3);
        CHECK(parts.parts[2].type == "text/rfc822-headers");
        CHECK(parts.parts[2].decoded() == row.header);
        CHECK(ascii(parts.parts[2].body));
    }
    auto mail = mail_from("a@b.example");
    mail.head.clear();
    for (const auto& none : {""s, "\r\n"s, "\r\nA: b\r\n"s, "no field at all\r\n"s, " A: b\r\n"s}) {
        CAPTURE(escaped(none));
        const auto parts = notice(mail, Message(none), {failed("c@d.example")});
        CHECK(parts.parts.size() == 2);
        CHECK(parts.text().find("returned") == std::string::npos);
    }
}

TEST_CASE("of an endless header 64 KiB are returned, in whole lines, and the text says so") {
    auto mail = mail_from("a@b.example");
    mail.head.clear();
    std::string lines;
    while (lines.size() < 64 * 1024) lines += "X-Field-" + std::to_string(lines.size()) + ": value\r\n";
    const auto parts = notice(mail, Message(lines + "Y: z\r\n\r\nbody\r\n"), {failed("c@d.example")});
    const auto& body = parts.parts.at(2).body;
    CHECK(body.size() <= 64 * 1024);
    CHECK(body.size() > 64 * 1024 - 100);
    CHECK(lines.starts_with(body));
    CHECK(parts.text().find("first 64 KiB") != std::string::npos);

    // In one line, too.
    const auto one = notice(mail, Message("X: " + std::string(1 << 20, 'x') + "\r\n\r\n"), {failed("c@d.example")});
    CHECK(one.parts.at(2).decoded() == "X: " + std::string(64 * 1024 - 3, 'x') + "\r\n");

    // At the limit it is whole: the text behind it does not count.
    const auto full = "X: " + std::string(500, 'y') + "\r\nY: " + std::string(64 * 1024 - 505 - 8, ' ') + "z\r\n\r\n";
    const auto exact = notice(mail, Message(full + std::string(100'000, 'b') + "\r\n"), {failed("c@d.example")});
    CHECK(exact.text().find("first 64 KiB") == std::string::npos);
}

TEST_CASE("others' UTF-8 is told in ASCII to a sender that has none") {
    auto mail = mail_from("a@b.example");
    mail.from.smtputf8 = true;
    auto s = failed("j\xc3\xbcrgen@d\xc3\xb6main.example", {550, "5.1.1", "Niemand hei\xc3\x9ft so \xff"});
    s.recipient.orcpt = OriginalRecipient{"utf-8", "\xe7\x94\xa8+\\x{6237}@\xf0\x9f\x98\x80.example"};
    const Message utf8(
        "Subject: Gr\xc3\xbc\xc3\x9f"
        "e\r\n\r\nx\r\n");
    const auto made = delivery_notice(us, mail, utf8, {{s}}, now);
    REQUIRE(made);
    CHECK(ascii(made->text.view()));
    CHECK(made->from.body == BodyType::seven_bit);
    CHECK_FALSE(made->from.smtputf8);
    const auto parts = parsed(*made);
    CHECK(value(parts.recipients.at(0), "Final-Recipient") == "utf-8; j\\x{FC}rgen@d\\x{F6}main.example");
    CHECK(value(parts.recipients[0], "Original-Recipient") == "utf-8; \\x{7528}\\x{2B}\\x{6237}@\\x{1F600}.example");
    CHECK(value(parts.recipients[0], "Diagnostic-Code") == "smtp; 550 5.1.1 Niemand hei?t so ?");
    CHECK(parts.parts[0].coding == "quoted-printable");
    CHECK(parts.text().find("<j\xc3\xbcrgen@d\xc3\xb6main.example>, for <\xe7\x94\xa8+\xe6\x88\xb7@") !=
          std::string::npos);
    CHECK(parts.text().find("Niemand hei\xc3\x9ft so ?") != std::string::npos);
    CHECK(parts.parts.at(2).coding == "quoted-printable");
    CHECK(
        parts.parts[2].decoded().ends_with("Subject: Gr\xc3\xbc\xc3\x9f"
                                           "e\r\n"));

    mail.from.ret = Return::full;
    const auto full = delivery_notice(us, mail, utf8, {{s}}, now);
    CHECK(full->from.body == BodyType::eight_bit_mime);
    CHECK_FALSE(full->from.smtputf8);
    CHECK(parsed(*full).parts.at(2).type == "message/global");
}

TEST_CASE("a sender with UTF-8 in its address is told by SMTPUTF8, in parts that may have it") {
    auto mail = mail_from("j\xc3\xbcrgen@b.example");
    auto s = failed("\xe7\x94\xa8\xe6\x88\xb7@d.example", {550, "5.1.1", "Niemand hei\xc3\x9ft so"});
    s.recipient.orcpt = OriginalRecipient{"UTF-8", "x\\x{FC}@d.example"};
    const Message utf8(
        "Subject: Gr\xc3\xbc\xc3\x9f"
        "e\r\n\r\nx\r\n");
    const auto made = delivery_notice(us, mail, utf8, {{s}}, now);
    REQUIRE(made);
    CHECK(made->from.smtputf8);
    CHECK(made->from.body == BodyType::eight_bit_mime);
    CHECK(made->to.at(0).str() == mail.from.str());
    const auto parts = parsed(*made);
    CHECK(value(parts.fields, "To") == "j\xc3\xbcrgen@b.example");
    CHECK(value(parts.recipients.at(0), "Final-Recipient") == "utf-8; \xe7\x94\xa8\xe6\x88\xb7@d.example");
    CHECK(value(parts.recipients[0], "Original-Recipient") == "utf-8; x\xc3\xbc@d.example");
    CHECK(value(parts.recipients[0], "Diagnostic-Code") == "smtp; 550 5.1.1 Niemand hei\xc3\x9ft so");
    CHECK(parts.parts.at(2).type == "message/global-headers");
    CHECK(parts.parts[2].body == mail.head +
                                     "Subject: Gr\xc3\xbc\xc3\x9f"
                                     "e\r\n");
    // What is no UTF-8 is none of that type.
    const auto latin = delivery_notice(us, mail, Message("Subject: \xfc\r\n\r\nx\r\n"), {{s}}, now);
    CHECK(parsed(*latin).parts.at(2).type == "text/rfc822-headers");
    // All in ASCII but the sender.
    const auto plain = delivery_notice(us, mail, text, {{failed("c@d.example")}}, now);
    CHECK(parsed(*plain).parts.at(1).type == "message/global-delivery-status");
    CHECK(plain->from.smtputf8);
}

TEST_CASE("addresses that are long, quoted or empty stay one field") {
    const auto local = std::string(64, 'l'), label = '.' + std::string(62, 'd');
    const auto domain = label.substr(1) + label + label + label;
    CHECK(said(failed(local + '@' + domain), "Final-Recipient") == "rfc822; " + local + '@' + domain);
    CHECK(said(failed("\"a  b;c\"@d.example"), "Final-Recipient") == "rfc822; \"a  b;c\"@d.example");
    CHECK(said(failed("postmaster"), "Final-Recipient") == "rfc822; postmaster");
    auto s = failed("c@d.example");
    for (const auto& row : {std::pair{"two  words"s, "rfc822; two  words"s},
                            {"  "s, ""s},
                            {""s, ""s},
                            {"\xff"s, "utf-8; ?"s},
                            {std::string(2000, ' '), ""s},
                            {"\r\n\r\n"s, ""s}}) {
        const auto& [address, field] = row;
        CAPTURE(escaped(row.first));
        s.recipient.orcpt = OriginalRecipient{"rfc822", address};
        CHECK(said(s, "Original-Recipient") == field);
    }
    s.recipient.orcpt = OriginalRecipient{"utf-8", replaced(std::string(3000, 'x'), "x", "\xe7\x94\xa8")};
    CHECK(said(s, "Original-Recipient").size() < 998);
}

TEST_CASE("a thousand recipients are told of, each in a block of its own") {
    std::vector<DeliveryStatus> all;
    for (int i = 0; i < 1000; ++i) all.push_back(failed("c" + std::to_string(i) + "@d.example"));
    const auto parts = notice(mail_from("a@b.example"), text, all);
    REQUIRE(parts.recipients.size() == 1000);
    CHECK(value(parts.recipients[999], "Final-Recipient") == "rfc822; c999@d.example");
}

// For t/interop/bounces.py: each notification as NAME.eml, and its envelope's parameters as NAME.mail, in the folder
// that BOUNCES names.
TEST_CASE("notifications for other programs to read" * doctest::skip(std::getenv("BOUNCES") == nullptr)) {
    const auto write = [](const std::string& name, const QueueTask& mail, const Message& about,
                          const std::vector<DeliveryStatus>& statuses) {
        const auto made = delivery_notice(us, mail, about, statuses, now);
        REQUIRE(made);
        const auto path = std::getenv("BOUNCES") + "/"s + name;
        made->text.save(path + ".eml");
        std::ofstream(path + ".mail") << (made->from.body == BodyType::eight_bit_mime ? "BODY=8BITMIME " : "")
                                      << (made->from.smtputf8 ? "SMTPUTF8 " : "");
    };
    const auto plain = mail_from("anna@example.org");
    const auto bad = failed("bert@example.test");
    write("failed", plain, text, {bad});
    auto late = with(failed("carl@example.test", {451, "4.4.1", "timed out"}), DeliveryAction::delayed);
    late.retry_until = arrived + std::chrono::hours(96);
    write("delayed", plain, text, {late});
    auto done = with(failed("dora@example.test", {250, "2.0.0", "ok"}), DeliveryAction::relayed);
    done.recipient.notify = notify("SUCCESS");
    write("mixed", plain, text, {bad, late, done});
    auto whole = plain;
    whole.from.ret = Return::full;
    whole.from.envid = "QQ314159";
    write("whole", whole, text, {bad});
    write("eight-bit", whole,
          Message("Subject: x\r\n\r\n.\r\n..\r\nFrom here: Gr\xc3\xbc\xc3\x9f"
                  "e\r\n"),
          {bad});
    write("header", plain,
          Message("Subject: Gr\xc3\xbc\xc3\x9f"
                  "e\r\nX-Long: " +
                  std::string(2000, 'x') + "\r\n\r\nx\r\n"),
          {bad});
    auto other = failed("j\xc3\xbcrgen@example.test", {550, "5.1.1", "Niemand hei\xc3\x9ft so"});
    write("other", plain, text, {other});
    write("global", mail_from("\xe7\x94\xa8\xe6\x88\xb7@example.org"),
          Message("Subject: Gr\xc3\xbc\xc3\x9f"
                  "e\r\n\r\nx\r\n"),
          {other});
    auto hostile = failed("c@d.example",
                          {550, "5.7.1", "no\r\nAction: delivered\r\n\r\n--=_x\r\n\x1b[2J" + std::string(3000, 'y')});
    hostile.host = "a\r\nX: y";
    write("hostile", whole, Message("A: b\r\n\r\n--=_\r\n\nContent-Type: text/html\r\n\r\n\xff\r"), {hostile});
}
