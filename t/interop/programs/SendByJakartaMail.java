// Jakarta Mail -- sends standard input by Jakarta Mail as the environment says; see many_clients.py.
import jakarta.mail.Message;
import jakarta.mail.Session;
import jakarta.mail.Transport;
import jakarta.mail.internet.InternetAddress;
import jakarta.mail.internet.MimeMessage;
import java.io.ByteArrayInputStream;
import java.util.Properties;

public class SendByJakartaMail {
    public static void main(String[] arguments) throws Exception {
        var say = System.getenv();
        var way = say.get("WAY");
        var mechanism = say.get("MECHANISM");
        var protocol = way.equals("TLS") ? "smtps" : "smtp";
        var settings = new Properties();
        var prefix = "mail." + protocol + ".";
        settings.put(prefix + "localhost", "client.example.org");
        settings.put(prefix + "starttls.enable", String.valueOf(way.equals("STARTTLS")));
        settings.put(prefix + "starttls.required", String.valueOf(way.equals("STARTTLS")));
        settings.put(prefix + "ssl.checkserveridentity", "true");
        settings.put(prefix + "allow8bitmime", "true");
        settings.put("mail.mime.allowutf8", "true");
        settings.put(prefix + "auth", String.valueOf(!mechanism.isEmpty()));
        if (!mechanism.isEmpty()) settings.put(prefix + "auth.mechanisms", mechanism);
        settings.put(prefix + "from", say.get("FROM"));
        if (say.get("UTF8").isEmpty()) {
            settings.put(prefix + "dsn.notify", "FAILURE");
            settings.put(prefix + "dsn.ret", "HDRS");
        }
        var session = Session.getInstance(settings);
        var mail = new MimeMessage(session, new ByteArrayInputStream(System.in.readAllBytes()));
        var to = say.get("TO").split(" ");
        var recipients = new InternetAddress[to.length];
        for (int i = 0; i < to.length; ++i) recipients[i] = new InternetAddress(to[i]);
        try (Transport transport = session.getTransport(protocol)) {
            transport.connect("localhost", Integer.parseInt(say.get("PORT")), say.get("USER_NAME"), say.get("PASSWORD"));
            transport.sendMessage(mail, recipients);
        }
    }
}
