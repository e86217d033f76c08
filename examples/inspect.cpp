// inspect -- prints every parsed field of each mail, and the mail itself, as one line of JSON.
#include <Net/SMTP/Server.hpp>
#include <cstdio>

#include "arguments.hpp"
#include "envelope.hpp"

using namespace Net::SMTP;

int main(int argc, char** argv) {
    const Arguments given(argc, argv, "Takes every mail and prints all that is parsed of it as a line of JSON.",
                          {listening, own_name});
    Options options{.hostname = given("--hostname")};
    options.offer.smtputf8 = options.offer.dsn = options.offer.binary_mime = true;  // a printed line breaks no promise
    Server server(given.all("--listen"), options);
    ready(server);

    server.run([](Server::Client& client) {
        const auto line = envelope(client, Object().text("message", client.MSG)) + '\n';
        // One call prints one whole line, whatever the other threads print.
        if (std::fwrite(line.data(), 1, line.size(), stdout) != line.size() || std::fflush(stdout) != 0)
            throw Reject({452, "4.3.1", "The output is full"});
        client.accept();
    });
}
