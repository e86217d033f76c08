// client -- every verb of a session, every refusal, the order of commands, and what never passes from one mail to the
// next.
#include "dialogue.hpp"

using namespace test;

TEST_CASE("a mail passes as the RFC prints it") {
    const auto played = dialogue(R"(
        S: 220 mx.test ESMTP
        C: EHLO client.example
        S: 250-mx.test
        S: 250-PIPELINING
        S: 250-SIZE 67108864
        S: 250-8BITMIME
        S: 250-CHUNKING
        S: 250-ENHANCEDSTATUSCODES
        S: 250 HELP
        C: MAIL FROM:<Smith@bar.com>
        S: 250 2.1.0
        C: RCPT TO:<Jones@foo.com>
        S: 250 2.1.5
        C: RCPT TO:<Brown@foo.com>
        S: 250 2.1.5
        C: DATA
        S: 354
        C: Subject: x
        C: 
        C: Blah blah blah...
        C: ..etc. etc.
        C: .
        S: 250 2.0.0
        C: QUIT
        S: 221 2.0.0 mx.test
        S: EOF
    )");
    REQUIRE(played.mails.size() == 1);
    const auto& mail = played.mails[0];
    CHECK(mail.from.str() == "Smith@bar.com");
    CHECK(mail.from.raw == "<Smith@bar.com>");
    REQUIRE(mail.to.size() == 2);
    CHECK(mail.to[0].str() == "Jones@foo.com");
    CHECK(mail.to[1].str() == "Brown@foo.com");
    CHECK(mail.text == "Subject: x\r\n\r\nBlah blah blah...\r\n.etc. etc.\r\n");
    CHECK(mail.helo == "client.example");
    CHECK(mail.protocol == "ESMTP");
    CHECK(!mail.id.empty());
}

TEST_CASE("nothing is said before the first process()") {
    std::promise<void> go;
    Talk talk({.program = [started = go.get_future().share()](Server::Client& c) {
        started.wait_for(patience);
        CHECK(!c.process());
    }});
    talk.wire.expect_silence();
    go.set_value();
    talk.play("S: 220\nC: QUIT\nS: 221\nS: EOF");
    talk.end();
}

TEST_CASE("a client that only knows HELO works to the end, and is offered nothing") {
    const auto played = dialogue(R"(
        S: 220
        C: HELO old
        S: 250 mx.test
        C: BDAT 0 LAST
        S: 50
        C: MAIL FROM:<a@b> SIZE=5
        S: 555
        C: MAIL FROM:<a@b>
        S: 250
        C: RCPT TO:<c@d>
        S: 250
        C: DATA
        S: 354
        C: hello
        C: .
        S: 250
        C: QUIT
        S: 221
        S: EOF
    )");
    REQUIRE(played.mails.size() == 1);
    CHECK(played.mails[0].protocol == "SMTP");
    CHECK(played.mails[0].text == "hello\r\n");
}

TEST_CASE("verbs and keywords may be in any case, and blanks may trail") {
    const auto played = dialogue(R"(
        S: 220
        C: eHlO me  
        S: 250
        C: mail from:<a@b> size=10 body=8bitmime
        S: 250
        C: Rcpt To:<c@d>   
        S: 250
        C: data  
        S: 354
        C: x
        C: .
        S: 250
        C: quit 
        S: 221
    )");
    REQUIRE(played.mails.size() == 1);
    CHECK(played.mails[0].from.size == 10);
    CHECK(played.mails[0].from.body == BodyType::eight_bit_mime);
}

TEST_CASE("every stimulus is answered, in any state, and none twice") {
    dialogue(R"(
        S: 220
        C: NOOP
        S: 250
        C: NOOP whatever it is
        S: 250
        C: RSET
        S: 250
        C: HELP
        S: 214
        C: HELP MAIL
        S: 214
        C: VRFY postmaster
        S: 252
        C: EXPN list
        S: 502 5.5.1
        C: MAIL
        S: 503
        C: RCPT
        S: 503
        C: MAIL FROM:<a@b>
        S: 503
        C: DATA
        S: 503
        C: EHLO me
        S: 250
        C: MAIL
        S: 501
        C: RCPT
        S: 503
        C: MAIL FROM:<a@x> SIZE=5
        S: 250
        C: RCPT
        S: 501
        C: HELP
        S: 214
        C: QUIT
        S: 221
        S: EOF
    )");
    dialogue(R"(
        S: 220
        C: 
        S: 500
        C: EHLO
        S: 501
        C: HELO
        S: 501
        C: FROBNICATE
        S: 500
        C: FROBNICATE with an argument
        S: 500
        C: MAILFROM:<a@b>
        S: 500
        C: EHLO me
        S: 250
        C: QUIT
        S: 221
    )");
}

TEST_CASE("verbs that are known but not there are 502") {
    for (const std::string verb :
         {"SEND FROM:<a@b>", "SOML FROM:<a@b>", "SAML FROM:<a@b>", "TURN", "STARTTLS", "AUTH PLAIN AAAA", "EXPN x"}) {
        CAPTURE(verb);
        dialogue(std::string("S: 220\nC: EHLO me\nS: 250\nC: ") + verb +
                 "\nS: 502 5.5.1\nC: NOOP\nS: 250\nC: QUIT\nS: 221\nS: EOF");
    }
}

TEST_CASE("HELP names the verbs that work, in lines that are replies") {
    Talk talk;
    talk.play("S: 220\nC: EHLO me\nS: 250\nC: HELP");
    const auto help = talk.wire.reply();
    for (const std::string verb :
         {"HELO", "EHLO", "MAIL", "RCPT", "DATA", "BDAT", "RSET", "NOOP", "VRFY", "HELP", "QUIT"})
        CHECK(help.find(verb) != help.npos);
    for (const std::string verb : {"TURN", "STARTTLS", "AUTH"}) CHECK(help.find(verb) == help.npos);
    talk.end();
}

TEST_CASE("arguments where none belong are 501, and change nothing") {
    const auto played = dialogue(std::string(opening) + R"(
        C: RSET now
        S: 501 5.5.4
        C: DATA now
        S: 501 5.5.4
        C: QUIT now
        S: 501 5.5.4
        C: VRFY
        S: 501 5.5.4
        C: DATA
        S: 354
        C: still there
        C: .
        S: 250
        C: QUIT
        S: 221
    )");
    CHECK(played.mails.size() == 1);
}

TEST_CASE("commands out of order are 503, and change nothing") {
    const auto played = dialogue(R"(
        S: 220
        C: MAIL FROM:<early@b>
        S: 503 5.5.1
        C: RCPT TO:<early@b>
        S: 503 5.5.1
        C: DATA
        S: 503 5.5.1
        C: EHLO me
        S: 250
        C: RCPT TO:<early@b>
        S: 503 5.5.1
        C: DATA
        S: 503 5.5.1
        C: MAIL FROM:<a@b>
        S: 250
        C: MAIL FROM:<second@b>
        S: 503 5.5.1
        C: DATA
        S: 503 5.5.1
        C: RCPT TO:<c@d>
        S: 250
        C: DATA
        S: 354
        C: .
        S: 250
        C: QUIT
        S: 221
    )");
    REQUIRE(played.mails.size() == 1);
    CHECK(played.mails[0].from.str() == "a@b");
    REQUIRE(played.mails[0].to.size() == 1);
    CHECK(played.mails[0].to[0].str() == "c@d");
    CHECK(played.mails[0].text.empty());
}

TEST_CASE("a refused path or parameter leaves nothing behind") {
    const auto played = dialogue(R"(
        S: 220
        C: EHLO me
        S: 250
        C: MAIL FROM:a@b
        S: 501
        C: MAIL FROM: <a@b>
        S: 501
        C: MAIL FROM:<a b@x>
        S: 501
        C: MAIL FROM:<a@b> FOO=BAR
        S: 555
        C: MAIL FROM:<a@b> SIZE=abc
        S: 501
        C: MAIL FROM:<a@b> SIZE=1 SIZE=2
        S: 501
        C: MAIL FROM:<bad@b> SIZE=99999999999
        S: 552 5.3.4
        C: RCPT TO:<c@d>
        S: 503
        C: MAIL FROM:<"a b"@x>
        S: 250
        C: RCPT TO:<>
        S: 501
        C: RCPT TO:<c@d> FOO=BAR
        S: 555
        C: RCPT TO:<postmaster>
        S: 250
        C: RCPT TO:<@hub.example:c@d>
        S: 250
        C: DATA
        S: 354
        C: x
        C: .
        S: 250
        C: QUIT
        S: 221
    )");
    REQUIRE(played.mails.size() == 1);
    CHECK(played.mails[0].from.str() == "\"a b\"@x");
    CHECK(played.mails[0].from.parameters.empty());
    REQUIRE(played.mails[0].to.size() == 2);
    CHECK(played.mails[0].to[0].str() == "postmaster");
    CHECK(played.mails[0].to[1].str() == "c@d");
    CHECK(played.mails[0].to[1].raw == "<@hub.example:c@d>");
}

TEST_CASE("the null sender is null, not unset") {
    const auto played = dialogue(
        "S: 220\nC: EHLO me\nS: 250\nC: MAIL FROM:<>\nS: 250\nC: RCPT TO:<c@d>\nS: 250\nC: DATA\nS: 354\nC: .\nS: 250");
    REQUIRE(played.mails.size() == 1);
    CHECK(played.mails[0].from.null());
    CHECK(!played.mails[0].from.unset());
    CHECK(Sender().unset());
}

TEST_CASE("what EHLO offers is the program's choice") {
    Setup setup;
    setup.options.offer = {.pipelining = false,
                           .size = false,
                           .eight_bit_mime = true,
                           .chunking = true,
                           .enhanced_status_codes = false,
                           .smtputf8 = true,
                           .dsn = true,
                           .binary_mime = true};
    setup.options.max_message_size = 0;
    setup.options.greeting = "";
    const auto played = dialogue(R"(
        S: 220 mx.test
        C: EHLO me
        S: 250-mx.test
        S: 250-8BITMIME
        S: 250-SMTPUTF8
        S: 250-CHUNKING
        S: 250-BINARYMIME
        S: 250-DSN
        S: 250 HELP
        C: MAIL FROM:<a@b> SIZE=1
        S: 555 
        C: MAIL FROM:<\xc3\xa4@b> SMTPUTF8 RET=HDRS ENVID=q+2Bq BODY=BINARYMIME
        S: 250 Sender
        C: RCPT TO:<\xc3\xb6@d> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;x+40y
        S: 250 Recipient
        C: BDAT 4 LAST
        c: a\0\nb
        S: 250 OK
        C: QUIT
        S: 221 mx.test
    )",
                                 setup);
    REQUIRE(played.mails.size() == 1);
    const auto& mail = played.mails[0];
    CHECK(mail.from.str() == "\xc3\xa4@b");
    CHECK(mail.from.smtputf8);
    CHECK(mail.from.ret == Return::headers);
    CHECK(mail.from.envid == "q+q");
    CHECK(mail.to[0].notify.str() == "SUCCESS,DELAY");
    CHECK(mail.to[0].orcpt->address == "x@y");
    CHECK(mail.text == std::string("a\0\nb", 4));
    CHECK(mail.protocol == "UTF8SMTP");
}

TEST_CASE("what was not offered is unknown") {
    dialogue(R"(
        S: 220
        C: EHLO me
        S: 250
        C: MAIL FROM:<a@b> SMTPUTF8
        S: 555
        C: MAIL FROM:<a@b> RET=FULL
        S: 555
        C: MAIL FROM:<a@b> BODY=BINARYMIME
        S: 5
        C: MAIL FROM:<\xc3\xa4@b>
        S: 553
        C: MAIL FROM:<a@b> BODY=9BIT
        S: 501
        C: MAIL FROM:<a@b>
        S: 250
        C: RCPT TO:<c@d> NOTIFY=NEVER
        S: 555
        C: QUIT
        S: 221
    )");
}

TEST_CASE("BINARYMIME works where it is offered without 8BITMIME") {
    Setup setup;
    setup.options.offer.eight_bit_mime = false;
    setup.options.offer.binary_mime = true;
    dialogue("S: 220\nC: EHLO me\nS: 250\nC: MAIL FROM:<a@b> BODY=BINARYMIME\nS: 250\nC: QUIT\nS: 221", setup);
}
