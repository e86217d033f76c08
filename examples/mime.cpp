// mime -- lists the parts of each mail; Poco's MIME reader takes it from a stream, wherever the octets are.
#include <Poco/Net/MailMessage.h>
#include <Poco/Net/MessageHeader.h>
#include <Poco/Net/PartHandler.h>
#include <Poco/NullStream.h>
#include <Poco/StreamCopier.h>
#include <Net/SMTP/Server.hpp>

#include <iostream>
#include <sstream>

#include "arguments.hpp"

using namespace Net::SMTP;

// Prints what each part is called and how long it is.
class List : public Poco::Net::PartHandler {
public:
    explicit List(std::ostream& out) : out_(out) {}
    void handlePart(const Poco::Net::MessageHeader& header, std::istream& part) override {
        Poco::NullOutputStream nowhere;
        const auto octets = Poco::StreamCopier::copyStream(part, nowhere);
        out_ << "  " << header.get("Content-Type", "text/plain") << ": " << octets << " octets\n";
    }

private:
    std::ostream& out_;
};

int main(int argc, char** argv) {
    const Arguments given(argc, argv, "Takes every mail and lists its parts.", {listening});
    Server server(given.all("--listen"));
    ready(server);

    server.run([](Server::Client& client) {
        std::ostringstream out;
        List list(out);
        Poco::Net::MailMessage mail;
        auto stream = client.MSG.stream();
        mail.read(*stream, list);
        std::cout << mail.getSubject() + '\n' + out.str() << std::flush;
        client.accept();
    });
}
