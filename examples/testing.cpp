// testing -- tests a function that sends mail, inside one process: against a server that refuses, and one that fails.
#include <Net/SMTP/Server.hpp>
#include <Net/SMTP/Test.hpp>

#include <cstdio>
#include <stdexcept>

using namespace Net::SMTP;

namespace {

using Names = std::vector<std::string>;

// What is tested: sends the news to each, and names those who did not get it.
Names send_news(const std::string& host, const Names& subscribers) {
    const Message news("Subject: News\r\n\r\nNothing new.\r\n");
    Names lost;
    for (const auto& name : subscribers)
        if (!Relay(Sender("news@example.org"), {Recipient(name)}, news, {.host = host}).delivered())
            lost.push_back(name);
    return lost;
}

void check(bool fine, const char* what) {
    if (!fine) throw std::runtime_error(what);
}

}  // namespace

int main() try {
    Test::MailServer server;
    server.reply_to("RCPT TO:<gone@", {550, "5.1.1", "No such user"});

    const auto lost = send_news(server.address(), {"ada@example.net", "gone@example.net", "bob@example.net"});
    check(lost == Names{"gone@example.net"}, "exactly the one who was refused is lost");

    const auto mails = server.wait_for(2);  // or Test::Failure, which says what came instead
    check(mails.size() == 2 && mails[1].to[0].str() == "bob@example.net", "the others have their mail");
    check(mails[0].header("Subject") == "News", "it has its subject");

    Test::ScriptedServer failing;
    failing.on({.command = "DATA", .connection = 1}, Test::Act(Reply{354, "", "Go on"}).then(Test::Act::reset()));
    check(send_news(failing.address(), {"ada@example.net", "bob@example.net"}) == Names{"ada@example.net"},
          "a connection that breaks in the middle of the text costs one mail, not two");
    check(failing.finish()[1].texts.at(0).complete, "and the other one is sent to its end");
    std::puts("ok");
} catch (const std::exception& e) {
    std::puts(e.what());
    return 1;
}
